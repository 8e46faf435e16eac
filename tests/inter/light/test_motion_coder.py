"""The model of motion vectors: what goes in comes out, for the bits that were foretold."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_motion_walk import walk

from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder
from dcvc.errors import BitstreamError
from dcvc.inter.light.motion_coder import MotionCoder
from dcvc.inter.light.motion_walk import symbols_of

CODER = MotionCoder()


def smooth(generator: torch.Generator, height: int, width: int) -> torch.Tensor:
    coarse = 20 * torch.randn(1, 2, 3, 3, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bicubic").round().int()


def sparse(generator: torch.Generator, height: int, width: int) -> torch.Tensor:
    wild_ones = wild(generator, height, width)
    return wild_ones * (torch.rand(1, 1, height, width, generator=generator) < 0.05)


def wild(generator: torch.Generator, height: int, width: int) -> torch.Tensor:
    return torch.randint(-600, 601, (1, 2, height, width), generator=generator, dtype=torch.int32)


def still(_: torch.Generator, height: int, width: int) -> torch.Tensor:
    return torch.zeros(1, 2, height, width, dtype=torch.int32)


FIELDS = (smooth, sparse, wild, still)


def payload_of(vectors, previous, coder=CODER) -> bytes:
    encoder = SymbolEncoder()
    coder.push(vectors, previous, encoder)
    return encoder.to_bytes()


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 9999),
       kind=st.sampled_from(FIELDS), before=st.sampled_from((None, *FIELDS)))
def test_vectors_come_back_for_the_bits_that_were_foretold(rows, columns, seed, kind, before):
    generator, size = torch.Generator().manual_seed(seed), (2 * rows, 2 * columns)
    vectors = kind(generator, *size)
    previous = None if before is None else before(generator, *size)
    payload = payload_of(vectors, previous)
    decoder = SymbolDecoder(payload)
    found, bits = CODER.pop(tuple(vectors.shape), previous, decoder)
    decoder.finish()
    assert found.dtype == torch.int32
    assert torch.equal(found, vectors)
    foretold = float(CODER.stream_bits(vectors, previous))
    assert bits == pytest.approx(foretold, rel=1e-6)
    # The coder begins with an empty word and ends on a whole one, without its zeros.
    assert -32 <= 8 * len(payload) - foretold <= 64 + 0.01 * foretold
    if not {kind, before} & {wild, sparse}:
        # Without escapes, training counts what streams cost.
        assert float(CODER.bits(vectors, previous)) == pytest.approx(foretold, rel=0.01, abs=1)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 9999),
       kind=st.sampled_from(FIELDS), before=st.sampled_from((None, *FIELDS)))
def test_the_compiled_walk_is_the_plain_one(rows, columns, seed, kind, before):
    generator, size = torch.Generator().manual_seed(seed), (2 * rows, 2 * columns)
    vectors = kind(generator, *size)
    previous = None if before is None else before(generator, *size)
    steps = []
    walk(vectors, previous, *[lambda *pair: steps.append(pair)] * 2)
    compiled = symbols_of(vectors[0].numpy(), None if previous is None else previous[0].numpy())
    for place, part in enumerate(("symbols", "contexts")):
        plain = torch.cat([step[place].flatten().long() for step in steps])
        assert plain.tolist() == [int(x) for batches in compiled for x in getattr(batches, part)]
    counts = [count for batches in compiled for count in batches.counts if count]
    assert counts == [step[0].numel() for step in steps]


@pytest.mark.parametrize(("shape", "limit"), [((46, 80), 0.001), ((2, 2), 0.1)])
def test_still_pictures_cost_next_to_nothing(shape, limit):
    zero = torch.zeros(1, 2, *shape, dtype=torch.int32)
    pixels = 64 * shape[0] * shape[1]
    assert float(CODER.stream_bits(zero, None)) / pixels < limit
    moving = zero + torch.tensor([5, -31], dtype=torch.int32).view(1, 2, 1, 1)
    # A camera that goes on as before: only the first grid is compared with the frame before.
    assert float(CODER.stream_bits(moving, moving)) / pixels < limit


def test_bits_of_a_batch_add_up_and_descend():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.cat([smooth(generator, 20, 20) for _ in range(3)])
    coder = MotionCoder()
    alone = sum(float(coder.bits(vectors[i:i + 1], None)) for i in range(3))
    start = coder.bits(vectors, None)
    assert start.dtype == torch.float32
    assert start.ndim == 0
    assert float(start) == pytest.approx(alone, rel=1e-5)
    optimizer = torch.optim.Adam(coder.parameters(), lr=0.01)
    before = coder.crc
    for _ in range(40):
        optimizer.zero_grad()
        loss = coder.bits(vectors, None)
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.9 * float(start)
    # Tables follow the weights, and both sides of a stream see it.
    assert coder.crc != before
    field = vectors[:1]
    decoder = SymbolDecoder(payload_of(field, None, coder))
    assert torch.equal(coder.pop(tuple(field.shape), None, decoder)[0], field)


def test_previous_vectors_help_where_motion_goes_on():
    vectors = smooth(torch.Generator().manual_seed(4), 24, 32)
    assert float(CODER.bits(vectors, vectors)) < float(CODER.bits(vectors, None))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_payloads_end_in_vectors_or_in_an_error(data):
    vectors = data.draw(st.sampled_from(FIELDS))(torch.Generator().manual_seed(1), 12, 16)
    payload = bytearray(payload_of(vectors, None))
    for _ in range(data.draw(st.integers(1, 4))):
        if payload:
            payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    payload = bytes(payload[:data.draw(st.integers(0, len(payload)))])
    try:
        found, _ = CODER.pop((1, 2, 12, 16), None, SymbolDecoder(payload))
    except BitstreamError:
        return
    # What is taken from a damaged payload stays in reach: no frame makes the next one's worse.
    assert int(found.abs().max()) <= 1 << 14
