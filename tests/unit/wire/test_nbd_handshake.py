"""A server's side of the negotiation: what each option leads to, and what no bytes can do."""

from __future__ import annotations

from collections.abc import Mapping
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.wire.nbd import layout as n
from monitor.wire.nbd.handshake import Phase, ServerHandshake
from monitor.wire.nbd.offers import ALLOCATION, BITMAP, DEPTH, Offer

DISK = Offer(
    "disk", 1 << 20, n.FLAG_HAS_FLAGS, "a disk", contexts=(ALLOCATION, DEPTH, BITMAP + "b")
)


class Offered:
    """Offers of one disk."""

    def names(self) -> Mapping[str, str]:
        return {"disk": "a disk"}

    def find(self, name: str) -> Offer | None:
        return DISK if name == "disk" else None


def begun(*, tls: bool = False, flags: int = 3) -> ServerHandshake:
    handshake = ServerHandshake(Offered(), tls=tls)
    magic, option_magic, offered = n.GREETING.unpack(handshake.take())
    assert (magic, option_magic) == (n.INIT_MAGIC, n.OPTION_MAGIC)
    assert offered == n.FLAG_FIXED_NEWSTYLE | n.FLAG_NO_ZEROES
    handshake.feed(n.CLIENT_FLAGS.pack(flags))
    return handshake


def option(number: int, data: bytes = b"") -> bytes:
    return n.OPTION.pack(n.OPTION_MAGIC, number, len(data)) + data


def text(value: str) -> bytes:
    return pack(">I", len(value)) + value.encode()


def go(name: str, *infos: int) -> bytes:
    return text(name) + pack(f">H{len(infos)}H", len(infos), *infos)


def queries(name: str, *wanted: str) -> bytes:
    return text(name) + pack(">I", len(wanted)) + b"".join(map(text, wanted))


def replies(handshake: ServerHandshake) -> list[tuple[int, bytes]]:
    """(reply, data) of all that is to be sent."""
    data, found = handshake.take(), []
    while data:
        magic, _, reply, length = n.OPTION_REPLY.unpack_from(data)
        assert magic == n.REPLY_MAGIC
        found.append((reply, data[n.OPTION_REPLY.size :][:length]))
        data = data[n.OPTION_REPLY.size + length :]
    return found


def answer(handshake: ServerHandshake, number: int, data: bytes = b"") -> list[int]:
    handshake.feed(option(number, data))
    return [reply for reply, _ in replies(handshake)]


def test_go_leads_to_the_export() -> None:
    handshake = begun()
    handshake.feed(option(n.OPT_GO, go("disk", n.INFO_NAME, n.INFO_DESCRIPTION)) + b"rest")
    found = replies(handshake)
    assert [reply for reply, _ in found] == [n.REP_INFO] * 4 + [n.REP_ACK]
    infos = {data[:2]: data[2:] for _, data in found[:-1]}
    assert infos[pack(">H", n.INFO_EXPORT)] == pack(">QH", DISK.size, DISK.flags)
    assert infos[pack(">H", n.INFO_NAME)] == b"disk"
    assert infos[pack(">H", n.INFO_DESCRIPTION)] == b"a disk"
    assert infos[pack(">H", n.INFO_BLOCK_SIZE)] == pack(">III", 1, 4096, n.MAX_PAYLOAD)
    assert handshake.phase is Phase.TRANSMISSION
    assert handshake.offer == DISK
    assert handshake.rest == b"rest"


def test_info_tells_and_stays() -> None:
    handshake = begun()
    assert answer(handshake, n.OPT_INFO, go("disk"))[-1] == n.REP_ACK
    assert answer(handshake, n.OPT_INFO, go("other")) == [n.REP_ERR_UNKNOWN]
    assert handshake.phase is Phase.OPTIONS


@pytest.mark.parametrize(("flags", "zeroes"), [(3, 0), (1, 124), (0, 124)])
def test_the_old_way_in(flags: int, zeroes: int) -> None:
    handshake = begun(flags=flags)
    handshake.feed(option(n.OPT_EXPORT_NAME, b"disk"))
    assert handshake.take() == pack(">QH", DISK.size, DISK.flags) + bytes(zeroes)
    assert handshake.phase is Phase.TRANSMISSION


def test_a_list() -> None:
    handshake = begun()
    handshake.feed(option(n.OPT_LIST))
    assert replies(handshake) == [(n.REP_SERVER, text("disk") + b"a disk"), (n.REP_ACK, b"")]
    assert answer(handshake, n.OPT_LIST, b"x") == [n.REP_ERR_INVALID]


def test_contexts_need_structured_replies_and_belong_to_an_export() -> None:
    handshake = begun()
    asked = queries("disk", ALLOCATION, "qemu:nonsense", BITMAP + "b")
    assert answer(handshake, n.OPT_SET_META_CONTEXT, asked) == [n.REP_ERR_INVALID]
    assert answer(handshake, n.OPT_STRUCTURED_REPLY) == [n.REP_ACK]
    assert answer(handshake, n.OPT_STRUCTURED_REPLY) == [n.REP_ERR_INVALID]
    handshake.feed(option(n.OPT_SET_META_CONTEXT, asked))
    assert replies(handshake) == [
        (n.REP_META_CONTEXT, pack(">I", 0) + ALLOCATION.encode()),
        (n.REP_META_CONTEXT, pack(">I", 2) + f"{BITMAP}b".encode()),
        (n.REP_ACK, b""),
    ]
    assert answer(handshake, n.OPT_GO, go("disk"))[-1] == n.REP_ACK
    assert handshake.contexts == {0: ALLOCATION, 2: BITMAP + "b"}
    assert handshake.structured


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ((), [ALLOCATION, DEPTH, BITMAP + "b"]),
        (("base:",), [ALLOCATION]),
        (("qemu:",), [DEPTH, BITMAP + "b"]),
        ((BITMAP,), [BITMAP + "b"]),
        (("qemu:allocation-depth", "qemu:"), [DEPTH, BITMAP + "b"]),
        (("other:",), []),
    ],
)
def test_contexts_are_listed(wanted: tuple[str, ...], found: list[str]) -> None:
    handshake = begun()
    answer(handshake, n.OPT_STRUCTURED_REPLY)
    handshake.feed(option(n.OPT_LIST_META_CONTEXT, queries("disk", *wanted)))
    listed = [data[4:].decode() for reply, data in replies(handshake) if reply != n.REP_ACK]
    assert listed == found


def test_nothing_is_told_before_tls() -> None:
    handshake = begun(tls=True)
    for number in (n.OPT_LIST, n.OPT_GO, n.OPT_STRUCTURED_REPLY, n.OPT_SET_META_CONTEXT):
        assert answer(handshake, number, go("disk")) == [n.REP_ERR_TLS_REQD]
    handshake.feed(option(n.OPT_STARTTLS) + option(n.OPT_LIST))
    assert [reply for reply, _ in replies(handshake)] == [n.REP_ACK]
    assert handshake.phase is Phase.TLS
    assert handshake.rest == b""  # what came unencrypted behind it is dropped
    handshake.tls_started()
    assert answer(handshake, n.OPT_LIST) == [n.REP_SERVER, n.REP_ACK]
    assert answer(handshake, n.OPT_STARTTLS) == [n.REP_ERR_INVALID]


def test_the_old_way_in_does_not_lead_past_tls() -> None:
    handshake = begun(tls=True)
    handshake.feed(option(n.OPT_EXPORT_NAME, b"disk"))
    assert handshake.phase is Phase.ENDED
    assert handshake.take() == b""


def test_no_tls_without_credentials() -> None:
    assert answer(begun(), n.OPT_STARTTLS) == [n.REP_ERR_POLICY]


def test_abort_is_acknowledged() -> None:
    handshake = begun()
    assert answer(handshake, n.OPT_ABORT) == [n.REP_ACK]
    assert handshake.phase is Phase.ENDED


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (pack(">I", 4097) + bytes(4097), n.REP_ERR_TOO_BIG),
        (pack(">I", 9) + b"disk", n.REP_ERR_INVALID),
        (pack(">I", 2) + b"\xff\xff\0\0", n.REP_ERR_INVALID),
        (go("disk") + b"more", n.REP_ERR_INVALID),
        (text("disk") + pack(">H", 9), n.REP_ERR_INVALID),
        (b"", n.REP_ERR_INVALID),
    ],
)
def test_lengths_are_checked(data: bytes, reply: int) -> None:
    assert answer(begun(), n.OPT_GO, data)[-1:] == [reply]


def test_a_count_of_queries_is_not_believed() -> None:
    handshake = begun()
    answer(handshake, n.OPT_STRUCTURED_REPLY)
    asked = text("disk") + pack(">I", 0xFFFF_FFFF)
    assert answer(handshake, n.OPT_SET_META_CONTEXT, asked) == [n.REP_ERR_INVALID]


@pytest.mark.parametrize(
    "data",
    [
        n.OPTION.pack(n.OPTION_MAGIC, n.OPT_GO, n.MAX_OPTION + 1),  # never waited for
        n.OPTION.pack(0, n.OPT_GO, 0),
        option(n.OPT_EXPORT_NAME, b"other"),
        option(n.OPT_EXPORT_NAME, bytes(5000)),
    ],
)
def test_what_ends_the_connection(data: bytes) -> None:
    handshake = begun()
    handshake.feed(data)
    assert handshake.phase is Phase.ENDED


def test_unknown_flags_end_the_connection() -> None:
    assert begun(flags=4).phase is Phase.ENDED


def test_a_client_that_never_comes_to_its_point_is_let_go() -> None:
    handshake = begun()
    handshake.feed(option(99) * (n.MAX_OPTIONS + 1))
    assert handshake.phase is Phase.ENDED


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                option,
                st.integers(0, 12),
                st.one_of(
                    st.binary(max_size=40), st.just(go("disk")), st.just(queries("disk", ""))
                ),
            ),
        ),
        max_size=12,
    ),
    st.booleans(),
    st.data(),
)
def test_any_bytes_in_any_pieces(parts: list[bytes], tls: bool, data: st.DataObject) -> None:
    """Nothing is raised, and how the bytes are cut does not matter."""
    sent = b"".join(parts)
    whole, cut = begun(tls=tls), begun(tls=tls)
    whole.feed(sent)
    at = 0
    while at < len(sent):
        step = data.draw(st.integers(1, len(sent)))
        cut.feed(sent[at : at + step])
        at += step
    if whole.phase is not Phase.TLS:
        assert whole.take() == cut.take()
        assert whole.offer == cut.offer
    assert whole.phase is cut.phase
