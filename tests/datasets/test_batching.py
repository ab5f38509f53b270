"""Batches: every recording once, in an order that depends on (seed, epoch) alone, whatever the ranks and the resume."""

import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from temporal.datasets import AudioFolder, BucketSampler, Recording, collate, generator_for, generators_for

PROPERTY = settings(derandomize=True, deadline=None)


def recording(samples, label=0, index=0):
    return Recording(torch.arange(1.0, samples + 1), label, f"k{index}", "ann", index)


@PROPERTY
@given(st.lists(st.integers(1, 50), min_size=1, max_size=9))
def test_collate_pads_with_zeros_and_keeps_everything(lengths):
    items = [recording(n, label=i % 3, index=10 + i) for i, n in enumerate(lengths)]
    batch = collate(items)
    assert batch.wave.shape == (len(lengths), max(lengths)) and batch.wave.dtype == torch.float32
    assert batch.lengths.tolist() == lengths and batch.lengths.dtype == batch.labels.dtype == torch.int64
    assert batch.labels.tolist() == [item.label for item in items]
    assert batch.indices.tolist() == [item.position for item in items]
    assert batch.keys == [item.key for item in items] and batch.speakers == ["ann"] * len(items)
    for row, item in zip(batch.wave, items, strict=True):
        assert torch.equal(row[: len(item.wave)], item.wave) and not row[len(item.wave) :].any()


def test_collate_refuses_nothing():
    with pytest.raises(ValueError, match="collate: recordings is empty"):
        collate([])


def test_batch_moves():
    batch = collate([recording(3)]).to("meta")
    assert batch.wave.device.type == batch.lengths.device.type == batch.labels.device.type == "meta"
    assert batch.indices.device.type == "cpu" and batch.keys == ["k0"]


@st.composite
def samplers(draw):
    """Arguments of one epoch on all ranks."""
    world_size = draw(st.integers(1, 4))
    durations = draw(st.lists(st.integers(1, 1000), min_size=world_size, max_size=300))
    return durations, {
        "batch_size": draw(st.integers(1, 20)),
        "seed": draw(st.integers(-5, 5)),
        "epoch": draw(st.integers(0, 5)),
        "shuffle": draw(st.booleans()),
        "world_size": world_size,
    }


@PROPERTY
@given(samplers())
def test_every_recording_once_and_even_batches(case):
    durations, arguments = case
    ranks = [list(BucketSampler(durations, rank=rank, **arguments)) for rank in range(arguments["world_size"])]
    assert sorted(i for rank in ranks for batch in rank for i in batch) == list(range(len(durations)))
    assert {len(rank) for rank in ranks} == {len(BucketSampler(durations, rank=0, **arguments))}
    sizes = [len(batch) for rank in ranks for batch in rank]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    assert max(sizes) <= max(arguments["batch_size"], 2 if len(ranks) > 1 else 1)


@PROPERTY
@given(samplers(), st.data())
def test_a_resumed_epoch_goes_on_with_the_same_batches(case, data):
    durations, arguments = case
    whole = BucketSampler(durations, **arguments)
    start = data.draw(st.integers(0, len(whole)))
    resumed = BucketSampler(durations, start=start, **arguments)
    assert list(resumed) == list(whole)[start:] and len(resumed) == len(whole)
    resumed.set_epoch(arguments["epoch"])
    assert list(resumed) == list(whole)[start:]
    for sampler in (resumed, whole):
        sampler.set_epoch(arguments["epoch"] + 1)
    assert list(resumed) == list(whole) and len(list(resumed)) == len(whole)


def test_order_is_a_function_of_seed_and_epoch():
    durations = [n * 37 % 101 for n in range(200)]
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1, 2):
            sampler = BucketSampler(durations, 16, seed=seed)
            sampler.set_epoch(epoch)
            orders[seed, epoch] = list(sampler)
            assert orders[seed, epoch] == list(sampler) == list(BucketSampler(durations, 16, seed=seed, epoch=epoch))
            torch.rand(3)  # the global generator has no say
    assert len({str(order) for order in orders.values()}) == 6


def test_batches_hold_similar_lengths_but_not_the_same_recordings_again():
    durations = torch.randint(2000, 20000, (2000,)).tolist()
    padded = {}
    for known in (durations, [1] * 2000):  # equal lengths: nothing to sort by
        batches = [b for e in range(3) for b in BucketSampler(known, 50, epoch=e)]
        padded[len(set(known)) > 1] = sum(len(b) * max(durations[i] for i in b) for b in batches) / (3 * sum(durations))
    # Uniform lengths: a random batch pads to the longest (20000 / 11000 = 1.8), pools of eight batches to about 1.1.
    assert padded[True] < 1.2 < 1.6 < padded[False]
    # Neighbours in length meet again only where one of the five pools holds both, and a sort of everything: always.
    first, second = ({frozenset(p) for b in BucketSampler(durations, 50, epoch=e) for p in pairwise(b)} for e in (0, 1))
    assert len(first & second) < 0.2 * len(first)


def test_without_shuffling_the_order_is_that_of_the_data():
    for world_size in (1, 3):
        ranks = [
            list(BucketSampler([1] * 50, 8, shuffle=False, rank=r, world_size=world_size)) for r in range(world_size)
        ]
        assert [i for rank in ranks for batch in rank for i in batch] == list(range(50))


@pytest.mark.parametrize(
    ("durations", "arguments", "message"),
    [
        ([], {"batch_size": 2}, "0 recordings cannot be shared by world_size=1"),
        ([1, 2], {"batch_size": 2, "world_size": 3}, "2 recordings cannot be shared by world_size=3 ranks"),
        ([1, 2], {"batch_size": 0}, "batch_size=0 must be at least 1"),
        ([1, 2], {"batch_size": 1, "rank": 1}, "rank=1 must be from 0 to world_size - 1 = 0"),
        ([1, 2], {"batch_size": 1, "start": 3}, "start=3 must be from 0 to the number of batches, 2"),
    ],
)
def test_wrong_arguments(durations, arguments, message):
    with pytest.raises(ValueError, match=f"BucketSampler: {message}"):
        BucketSampler(durations, **arguments)


def test_generators_repeat_across_processes_and_differ_among_recordings():
    here = [
        torch.rand(1, generator=generator_for(3, epoch, index)).item() for epoch in (0, 1) for index in range(-1, 4)
    ]
    code = (
        "import torch; from temporal.datasets import generator_for\n"
        "print([torch.rand(1, generator=generator_for(3, e, i)).item() for e in (0, 1) for i in range(-1, 4)])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.strip() == str(here) and len(set(here)) == len(here)
    many = [torch.rand(1, generator=g).item() for g in generators_for(0, 0, torch.arange(3000))]
    # Means of 3000 uniform numbers lie within 0.5 +- 0.02 but for one case in 10,000.
    assert abs(sum(many) / len(many) - 0.5) < 0.02 and len(set(many)) > 2990


def test_a_loader_over_real_recordings(fsdd):
    data = AudioFolder(fsdd, 8000, split="test")
    sampler = BucketSampler(data.durations, 32)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=1)
    batches = list(loader)
    assert len(batches) == len(loader) == 8
    assert [batch.indices.tolist() for batch in batches] == list(sampler)
    for batch in batches:
        assert batch.keys == [data.keys[i] for i in batch.indices]
        assert batch.labels.tolist() == [data.targets[i] for i in batch.indices]
        assert batch.lengths.tolist() == [data.durations[i] for i in batch.indices]
