"""The latent cache on disk: shards that several processes fill, and that are read one by one."""

import multiprocessing
import os
import signal
import threading

import pytest
import torch

from trainer.data import latent_cache
from trainer.data.latent_cache import LatentCache, Moments


def keys(number):
    return [f"{n * 2654435761 % 2**32:08x}{n:024x}" for n in range(number)]


def moments(key):
    stream = torch.Generator().manual_seed(int(key[:8], 16))
    return Moments(*(torch.rand((4, 2, 3), generator=stream) for _ in range(2)))


def opened(folder):
    cache = LatentCache.open(folder)
    assert cache is not None
    return cache


def fill(folder, wanted, slowly=0.0):
    """Do as an encoder does; return the keys that this process made."""
    cache = opened(folder)
    made = []
    remaining = list(buckets := cache.buckets(wanted))
    for wait in (False, True):
        left = []
        for bucket in remaining:
            with cache.claimed(bucket, wait=wait) as is_claimed:
                if not is_claimed:
                    left.append(bucket)
                    continue
                cache.refresh(print)
                missing = [key for key in buckets[bucket] if key not in cache]
                if missing:
                    threading.Event().wait(slowly)
                    cache.write(bucket, {key: moments(key) for key in missing})
                made += missing
        remaining = left
    return made


def child(folder, wanted, results, slowly):
    results.put(fill(folder, wanted, slowly))


def test_a_latent_comes_back_bit_by_bit(tmp_path):
    cache = opened(tmp_path)
    wanted = keys(5)
    cache.write("", {key: moments(key) for key in wanted})
    again = opened(tmp_path)
    for key in wanted:
        for read in (cache.read(key), again.read(key)):
            assert read is not None and torch.equal(read.mean, moments(key).mean)
            assert torch.equal(read.std, moments(key).std)
    assert again.read("f" * 32) is None and len(again) == 5


def test_shards_hold_some_hundreds_and_few_images_have_one_shard(tmp_path):
    cache = opened(tmp_path)
    assert len(cache.buckets(keys(400))) == 1
    many = cache.buckets(keys(20_000))
    sizes = [len(inside) for inside in many.values()]
    assert sum(sizes) == 20_000 and max(sizes) <= latent_cache.SHARD_SIZE and min(sizes) > 20
    assert cache.buckets(reversed(keys(20_000))) == many


def test_only_where_latents_are_is_held_in_memory(tmp_path):
    cache = opened(tmp_path)
    large = Moments(torch.zeros(4, 64, 64), torch.zeros(4, 64, 64))
    cache.write("", dict.fromkeys(keys(20), large))
    held = [value for value in vars(cache).values() if isinstance(value, torch.Tensor)]
    assert not held and len(cache) == 20


def test_processes_share_the_work_and_each_latent_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_cache, "SHARD_SIZE", 4)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    wanted = keys(60)
    processes = [
        context.Process(target=child, args=(tmp_path, wanted, results, 0.01)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    made = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(key for several in made for key in several) == sorted(wanted)
    assert sum(map(bool, made)) > 1  # not one of them alone
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".safetensors"]


def test_a_killed_process_leaves_its_bucket_to_the_others(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()

    def hold():
        cache = opened(tmp_path)
        with cache.claimed("", wait=False) as is_claimed:
            assert is_claimed
            (tmp_path / ".dsk-all.tmp").write_bytes(b"half a shard")
            ready.set()
            signal.pause()

    holder = context.Process(target=hold)
    holder.start()
    assert ready.wait(30)
    with opened(tmp_path).claimed("", wait=False) as is_claimed:
        assert not is_claimed
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert sorted(fill(tmp_path, keys(3))) == sorted(keys(3))
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]


def test_a_shard_that_is_removed_while_a_run_reads_is_named(tmp_path):
    from datasetkit.core.errors import InputError

    cache = opened(tmp_path)
    cache.write("", {key: moments(key) for key in keys(2)})
    [shard] = tmp_path.iterdir()
    shard.unlink()
    with pytest.raises(InputError, match="was removed or changed") as error:
        cache.read(keys(2)[0])
    assert "start the run again" in error.value.hint


@pytest.mark.parametrize(
    "header",
    [
        b'{"__metadata__":{"k":"x"},"k":{"dtype":"F32","shape":[2,1,1,1],"data_offsets":[0,8]}}',
        b'{"__metadata__":{},"KEY":{"dtype":"F32","shape":[2,1,1,1],"data_offsets":[-8,0]}}',
        b'{"__metadata__":{},"KEY":{"dtype":"F32","shape":[2,1,1,9],"data_offsets":[0,72]}}',
        b'{"__metadata__":{},"KEY":{"dtype":"F16","shape":[2,1,1,1],"data_offsets":[0,4]}}',
        b'{"__metadata__":{},"KEY":{"dtype":"F32","shape":[2,-1,-1,1],"data_offsets":[0,8]}}',
        b'{"__metadata__":{},"KEY":[]}',
        b'{"__metadata__":[],"KEY":{"dtype":"F32","shape":[2,1,1,1],"data_offsets":[0,8]}}',
        b"[]",
        b"no JSON",
    ],
)
def test_a_file_that_is_no_shard_is_passed_over(tmp_path, header):
    header = header.replace(b"KEY", b"a" * 32)
    data = len(header).to_bytes(8, "little") + header + bytes(8)
    (tmp_path / f"{'0' * 32}.safetensors").write_bytes(data)
    warnings: list[str] = []
    cache = LatentCache(tmp_path)
    cache.refresh(warnings.append)
    assert len(cache) == 0 and len(warnings) == 1
