"""Names of the gRPC services that rxnet calls or serves: full paths of the methods, and header names.

The paths are NetBird's, while our message classes live in packages of our own (rxnet.wire.*): on the wire a method
is found by its path and a message has no name.
"""

from __future__ import annotations

from dataclasses import dataclass

# -- management (management document, 1.1) -----------------------------------------------------------------------

MANAGEMENT_SERVICE = "management.ManagementService"

GET_SERVER_KEY = "/management.ManagementService/GetServerKey"
IS_HEALTHY = "/management.ManagementService/isHealthy"
LOGIN = "/management.ManagementService/Login"
SYNC = "/management.ManagementService/Sync"
SYNC_META = "/management.ManagementService/SyncMeta"
LOGOUT = "/management.ManagementService/Logout"
JOB = "/management.ManagementService/Job"
GET_DEVICE_AUTHORIZATION_FLOW = "/management.ManagementService/GetDeviceAuthorizationFlow"
GET_PKCE_AUTHORIZATION_FLOW = "/management.ManagementService/GetPKCEAuthorizationFlow"
EXTEND_AUTH_SESSION = "/management.ManagementService/ExtendAuthSession"
CREATE_EXPOSE = "/management.ManagementService/CreateExpose"
RENEW_EXPOSE = "/management.ManagementService/RenewExpose"
STOP_EXPOSE = "/management.ManagementService/StopExpose"

# -- signal (signal document, 1.1) -------------------------------------------------------------------------------

SIGNAL_SERVICE = "signalexchange.SignalExchange"

SIGNAL_SEND = "/signalexchange.SignalExchange/Send"
SIGNAL_CONNECT_STREAM = "/signalexchange.SignalExchange/ConnectStream"

HEADER_PEER_ID = "x-wiretrustee-peer-id"
"""Request metadata of ConnectStream: our key, base64 text."""
HEADER_PEER_REGISTERED = "x-wiretrustee-peer-registered"
"""Response header of ConnectStream, `1`; its presence says that messages reach us from now on."""

# -- daemon (daemon document, 1.1) -------------------------------------------------------------------------------

DAEMON_SERVICE = "daemon.DaemonService"


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC of the control socket. `request` and `response` name classes of `rxnet.wire.daemon_pb2`."""

    name: str
    request: str
    response: str
    server_streaming: bool = False

    @property
    def path(self) -> str:
        return f"/{DAEMON_SERVICE}/{self.name}"


def _method(name: str, request: str = "", response: str = "", *, server_streaming: bool = False) -> Method:
    return Method(name, request or f"{name}Request", response or f"{name}Response", server_streaming)


DAEMON_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _method("Login"),
        _method("WaitSSOLogin"),
        _method("Up"),
        _method("Status"),
        _method("SubscribeStatus", "StatusRequest", "StatusResponse", server_streaming=True),
        _method("Down"),
        _method("GetConfig"),
        _method("ListNetworks"),
        _method("SelectNetworks"),
        _method("DeselectNetworks", "SelectNetworksRequest", "SelectNetworksResponse"),
        _method("ForwardingRules", "EmptyRequest", "ForwardingRulesResponse"),
        _method("DebugBundle"),
        _method("GetLogLevel"),
        _method("SetLogLevel"),
        _method("ListStates"),
        _method("CleanState"),
        _method("DeleteState"),
        _method("SetSyncResponsePersistence"),
        _method("TracePacket"),
        _method("StartCapture", "StartCaptureRequest", "CapturePacket", server_streaming=True),
        _method("StartBundleCapture"),
        _method("StopBundleCapture"),
        _method("SubscribeEvents", "SubscribeRequest", "SystemEvent", server_streaming=True),
        _method("GetEvents"),
        _method("RegisterUILog"),
        _method("SwitchProfile"),
        _method("SetConfig"),
        _method("AddProfile"),
        _method("RenameProfile"),
        _method("RemoveProfile"),
        _method("ListProfiles"),
        _method("GetActiveProfile"),
        _method("Logout"),
        _method("GetFeatures"),
        _method("TriggerUpdate"),
        _method("GetPeerSSHHostKey"),
        _method("RequestJWTAuth"),
        _method("WaitJWTToken"),
        _method("RequestExtendAuthSession"),
        _method("WaitExtendAuthSession"),
        _method("DismissSessionWarning"),
        _method("StartCPUProfile"),
        _method("StopCPUProfile"),
        _method("GetInstallerResult", "InstallerResultRequest", "InstallerResultResponse"),
        _method("ExposeService", "ExposeServiceRequest", "ExposeServiceEvent", server_streaming=True),
        _method("WailsUIReady"),
    )
}
"""All RPCs by name, in the order of the service definition."""
