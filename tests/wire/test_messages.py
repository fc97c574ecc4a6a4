"""The generated messages against recorded ones: every field known, names and numbers right."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from rxnet.wire import daemon_pb2, management_pb2, services, signalexchange_pb2

VECTORS = Path(__file__).parents[1] / "vectors"


def _recorded() -> list[Any]:
    messages = json.loads((VECTORS / "management_messages.json").read_text())
    maps = json.loads((VECTORS / "dataplane_maps.json").read_text())
    # The maps were rendered with JSON names (addressV6), the messages with those of the definition (address_v6).
    return [
        *(pytest.param(case["message"], case, True, id=case["name"]) for case in messages),
        *(pytest.param("SyncResponse", case, False, id=f"{case['case']}-{case['peer']}") for case in maps),
    ]


def _render(message: Message, proto_names: bool = True) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=proto_names)


@pytest.mark.parametrize(("name", "case", "proto_names"), _recorded())
def test_recorded_messages_decode_to_the_recorded_values(name: str, case: dict[str, Any], proto_names: bool) -> None:
    message = getattr(management_pb2, name).FromString(base64.b64decode(case["protobuf_base64"]))
    assert _render(message, proto_names) == case["json"]
    # Nothing was left over as an unknown field, at any depth.
    stripped = type(message).FromString(message.SerializeToString())
    stripped.DiscardUnknownFields()
    assert stripped.ByteSize() == message.ByteSize()


@pytest.mark.parametrize(
    ("whole", "split"),
    [("SyncResponse", "SplitSyncResponse"), ("NetworkMap", "SplitNetworkMap")],
)
def test_a_split_message_has_the_numbers_of_the_whole(whole: str, split: str) -> None:
    fields = getattr(management_pb2, whole).DESCRIPTOR.fields_by_name
    for field in getattr(management_pb2, split).DESCRIPTOR.fields:
        original = fields[field.name]
        assert field.number == original.number
        if field.type == field.TYPE_BYTES:
            assert original.type in (original.TYPE_MESSAGE, original.TYPE_BYTES)
        else:
            assert field.type == original.type
            assert field.message_type is original.message_type


def test_no_descriptor_has_a_name_of_netbird_s_own() -> None:
    # Two definitions of `management.X` in one process collide: an embedder may have the other one.
    for module in (management_pb2, daemon_pb2, signalexchange_pb2):
        assert module.DESCRIPTOR.name.startswith("rxnet/wire/")
        assert module.DESCRIPTOR.package.startswith("rxnet.wire.")


def test_every_method_of_the_daemon_has_its_messages() -> None:
    assert len(services.DAEMON_METHODS) == 46
    for name, method in services.DAEMON_METHODS.items():
        assert method.path == f"/daemon.DaemonService/{name}"
        assert issubclass(getattr(daemon_pb2, method.request), Message)
        assert issubclass(getattr(daemon_pb2, method.response), Message)
    streams = {method.name for method in services.DAEMON_METHODS.values() if method.server_streaming}
    assert streams == {"SubscribeStatus", "StartCapture", "SubscribeEvents", "ExposeService"}


def test_the_definitions_are_complete() -> None:
    def count(module: Any) -> int:
        def below(message: Any) -> int:
            return 1 + sum(below(nested) for nested in message.nested_types)

        return sum(below(message) for message in module.DESCRIPTOR.message_types_by_name.values())

    assert count(management_pb2) == 83 + 2  # with map entries, and the two split forms
    assert len(management_pb2.DESCRIPTOR.enum_types_by_name) == 6  # and two nested


def test_a_go_client_s_meta_renders_back() -> None:
    recorded = json.loads((VECTORS / "go_login_meta.json").read_text())["json"]
    meta = json_format.ParseDict(recorded, management_pb2.PeerSystemMeta())
    assert _render(management_pb2.PeerSystemMeta.FromString(meta.SerializeToString())) == recorded
