"""Types of the compiled module, from csrc/dp_api.h; written by stub.py (`make stub`), not by hand."""

from collections.abc import Callable, Iterator
from typing import Any, final

from typing_extensions import Buffer

@final
class CData:
    """A C pointer, array or structure; its fields are attributes."""

    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any) -> None: ...
    def __getitem__(self, index: int | slice) -> Any: ...
    def __setitem__(self, index: int | slice, value: Any) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __bool__(self) -> bool: ...
    def __int__(self) -> int: ...
    def __add__(self, offset: int) -> CData: ...
    def __sub__(self, other: int | CData) -> Any: ...
    def __enter__(self) -> CData: ...
    def __exit__(self, *exception: object) -> None: ...

@final
class CType:
    """A C type; which attributes there are depends on its kind."""

    cname: str
    kind: str
    def __getattr__(self, name: str) -> Any: ...

@final
class Memory:
    """C memory as a Python buffer."""

    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int | slice) -> bytes: ...
    def __setitem__(self, index: int | slice, value: bytes) -> None: ...

@final
class FFI:
    """cffi's own functions, as far as they are used here."""

    NULL: CData
    def addressof(self, cdata: CData, *field_or_index: str | int) -> CData: ...
    def buffer(self, cdata: CData, size: int = -1) -> Memory: ...
    def cast(self, cdecl: str, value: CData | int) -> CData: ...
    def from_buffer(self, cdecl: str, buffer: Buffer, require_writable: bool = False) -> CData: ...
    def gc(self, cdata: CData, destructor: Callable[[CData], object] | None, size: int = 0) -> CData: ...
    def memmove(self, destination: CData | Buffer, source: CData | Buffer, n: int) -> None: ...
    def new(self, cdecl: str, init: Any = None) -> CData: ...
    def release(self, cdata: CData) -> None: ...
    def sizeof(self, cdecl: str | CData) -> int: ...
    def string(self, cdata: CData, maxlen: int = -1) -> bytes: ...
    def typeof(self, cdecl: object) -> CType: ...
    def unpack(self, cdata: CData, length: int) -> Any: ...

@final
class Lib:
    """The functions and constants of csrc/dp_api.h."""

    DP_ALLOW: int
    DP_BYPASS: int
    DP_CAPTURE_PCAP: int
    DP_CAPTURE_PCAPNG: int
    DP_CAPTURE_UNKNOWN: int
    DP_CAUSES: int
    DP_CAUSE_BAD_CHECKSUM: int
    DP_CAUSE_BAD_LENGTH: int
    DP_CAUSE_BAD_VERSION: int
    DP_CAUSE_EXTENSION_CHAIN: int
    DP_CAUSE_FRAGMENT: int
    DP_CAUSE_ICMP_TYPE: int
    DP_CAUSE_ICMP_UNRELATED: int
    DP_CAUSE_ICMP_UNSOLICITED: int
    DP_CAUSE_NEIGHBOUR_DISCOVERY: int
    DP_CAUSE_NONE: int
    DP_CAUSE_SHORT_HEADER: int
    DP_CAUSE_TCP_FLAGS: int
    DP_CAUSE_TCP_NO_CONNECTION: int
    DP_CAUSE_TCP_STATE: int
    DP_CAUSE_TCP_WINDOW: int
    DP_CONN_ICMP_ONE_WAY: int
    DP_CONN_ICMP_TWO_WAY: int
    DP_CONN_INVALID: int
    DP_CONN_OTHER_ONE_WAY: int
    DP_CONN_OTHER_TWO_WAY: int
    DP_CONN_STATES: int
    DP_CONN_TCP_CLOSE: int
    DP_CONN_TCP_CLOSE_WAIT_INITIATOR: int
    DP_CONN_TCP_CLOSE_WAIT_RESPONDER: int
    DP_CONN_TCP_CLOSING: int
    DP_CONN_TCP_ESTABLISHED: int
    DP_CONN_TCP_FIN_WAIT_INITIATOR: int
    DP_CONN_TCP_FIN_WAIT_RESPONDER: int
    DP_CONN_TCP_LAST_ACK_INITIATOR: int
    DP_CONN_TCP_LAST_ACK_RESPONDER: int
    DP_CONN_TCP_SIMULTANEOUS: int
    DP_CONN_TCP_SYN_RECEIVED: int
    DP_CONN_TCP_SYN_RECEIVED_INITIATOR: int
    DP_CONN_TCP_SYN_SENT: int
    DP_CONN_TCP_TIME_WAIT: int
    DP_DENY: int
    DP_DIRECTIONS: int
    DP_EGRESS: int
    DP_E_ARGUMENT: int
    DP_E_FORMAT: int
    DP_E_IO: int
    DP_E_LIMIT: int
    DP_E_LINK_TYPE: int
    DP_E_MEMORY: int
    DP_E_TRUNCATED: int
    DP_FLOODS: int
    DP_FLOOD_ICMP: int
    DP_FLOOD_OTHER: int
    DP_FLOOD_TCP: int
    DP_FLOOD_TCP_HALF_OPEN: int
    DP_FLOOD_UDP: int
    DP_FRAME_CHECKSUM_OFFLOADED: int
    DP_INBOUND: int
    DP_INGRESS: int
    DP_INITIATOR: int
    DP_LINKS: int
    DP_LINK_ETHERNET: int
    DP_LINK_LOOP: int
    DP_LINK_NULL: int
    DP_LINK_RAW: int
    DP_LINK_SLL: int
    DP_LINK_SLL2: int
    DP_ORIGINS: int
    DP_ORIGIN_NONE: int
    DP_OUTBOUND: int
    DP_REASONS: int
    DP_REASON_CONNECTION: int
    DP_REASON_CONTROL: int
    DP_REASON_DISCONNECTED: int
    DP_REASON_INVALID: int
    DP_REASON_LOAD_BALANCER: int
    DP_REASON_MALFORMED: int
    DP_REASON_NO_RULE_MATCHED: int
    DP_REASON_RELATED: int
    DP_REASON_RULE: int
    DP_REASON_TABLE_FULL: int
    DP_REMOTE_ANY: int
    DP_RESPONDER: int
    DP_SIDES: int
    DP_STATES: int
    DP_STATE_DISCONNECTED: int
    DP_STATE_ESTABLISHED: int
    DP_STATE_INVALID: int
    DP_STATE_NEW: int
    DP_STATE_RELATED: int
    DP_STATE_UNTRACKED: int
    DP_TCP_ACK: int
    DP_TCP_ACK_FIN: int
    DP_TCP_EVENTS: int
    DP_TCP_FIN: int
    DP_TCP_FIN_ACK_FIN: int
    DP_TCP_RST: int
    DP_TCP_SYN: int
    DP_TCP_SYN_ACK: int
    DP_TEXT_CSV: int
    DP_TEXT_JSON: int
    DP_VERDICTS: int
    DP_WAITING: int
    DP_WORD_CAUSE: int
    DP_WORD_CONN_STATE: int
    DP_WORD_DIRECTION: int
    DP_WORD_FLOOD: int
    DP_WORD_KINDS: int
    DP_WORD_LINK: int
    DP_WORD_ORIGIN: int
    DP_WORD_REASON: int
    DP_WORD_STATE: int
    DP_WORD_VERDICT: int
    DP_ZONES_MAX: int
    def dp_capture_free(self, a0: CData, /) -> None: ...
    def dp_capture_open(self, a0: int, a1: CData, /) -> int: ...
    def dp_capture_status(self, a0: CData, a1: CData, /) -> None: ...
    def dp_endpoints_free(self, a0: CData, /) -> None: ...
    def dp_endpoints_new(
        self, a0: CData, a1: int, a2: CData, a3: int, a4: CData, a5: int, a6: CData, a7: int, a8: CData, /
    ) -> int: ...
    def dp_engine_advance(self, a0: CData, a1: int, /) -> None: ...
    def dp_engine_connections(self, a0: CData, a1: CData, a2: CData, a3: CData, a4: int, /) -> int: ...
    def dp_engine_count(self, a0: CData, a1: CData, a2: CData, /) -> int: ...
    def dp_engine_counters(self, a0: CData, a1: CData, /) -> None: ...
    def dp_engine_denied(self, a0: CData, a1: CData, a2: int, /) -> int: ...
    def dp_engine_flush(self, a0: CData, a1: CData, /) -> int: ...
    def dp_engine_frames(self, a0: CData, /) -> int: ...
    def dp_engine_free(self, a0: CData, /) -> None: ...
    def dp_engine_give_up(self, a0: CData, a1: int, /) -> None: ...
    def dp_engine_new(self, a0: CData, a1: CData, a2: CData, /) -> int: ...
    def dp_engine_process(self, a0: CData, a1: CData, a2: int, a3: CData, a4: CData, /) -> int: ...
    def dp_engine_resolved(self, a0: CData, a1: CData, a2: int, /) -> int: ...
    def dp_engine_rule_counters(self, a0: CData, a1: CData, a2: int, /) -> None: ...
    def dp_engine_update(self, a0: CData, a1: CData, /) -> int: ...
    def dp_engine_waiting(self, a0: CData, /) -> int: ...
    def dp_error_text(self, a0: int, /) -> CData: ...
    def dp_flows_match(self, a0: CData, a1: int, a2: CData, a3: CData, /) -> int: ...
    def dp_records_text(
        self, a0: CData, a1: int, a2: int, a3: CData, a4: CData, a5: CData, a6: int, a7: CData, /
    ) -> int: ...
    def dp_replay_free(self, a0: CData, /) -> None: ...
    def dp_replay_new(self, a0: CData, a1: int, a2: CData, /) -> int: ...
    def dp_replay_next_time(self, a0: CData, a1: CData, /) -> int: ...
    def dp_replay_run(self, a0: CData, a1: CData, a2: int, a3: CData, a4: CData, a5: int, /) -> int: ...
    def dp_rule_table_free(self, a0: CData, /) -> None: ...
    def dp_rule_table_lookup(self, a0: CData, a1: CData, a2: int, a3: CData, /) -> int: ...
    def dp_rule_table_new(
        self, a0: int, a1: CData, a2: int, a3: CData, a4: int, a5: CData, a6: int, a7: CData, a8: int, a9: CData, /
    ) -> int: ...
    def dp_rule_table_size(self, a0: CData, /) -> int: ...
    def dp_word(self, a0: int, a1: int, /) -> CData: ...

ffi: FFI
lib: Lib
