"""Reading of Kineto's JSON to the columns of a `Recording`, by objects or by compiled code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from chakrasim.converters.pytorch.read.event_columns import EventColumns, whole
from chakrasim.converters.pytorch.read.json_chunks import (
    CHUNK_BYTES,
    NEVER_CUT,
    BrokenChunk,
    collector_paused,
    read_document,
)
from chakrasim.converters.pytorch.read.kineto import (
    CALL,
    CATEGORIES,
    KERNEL,
    MEMSET,
    SYNC_RECORD,
    Recording,
)
from chakrasim.converters.pytorch.read.scan_driver import compiled, pays, scan_file
from chakrasim.converters.pytorch.read.spellings import describes_communication
from chakrasim.traces.errors import TraceError


def read_recording(
    path: Path,
    *,
    describes: Callable[[str], bool] = describes_communication,
    is_scanned: bool | None = None,
) -> Recording:
    """Read one profiler trace, plain or gzipped. O(events): about 1 us each if it is scanned, else 2 us.

    `describes` says of an operator's name whether its arguments are kept. Whether the text is scanned by
    compiled code or parsed to objects (`scan_driver`) changes nothing but time and memory; by default it is
    where that pays. Raises TraceError for what isn't complete JSON, isn't a profiler trace, has no events or
    impossible ones.
    """
    with collector_paused():
        if pays([path]) if is_scanned is None else is_scanned:
            collected = EventColumns(str(path), describes)
            header = scan_file(path, collected)
            if header is not None:
                return collected.finish(header)
        try:
            return _read(path, CHUNK_BYTES, describes)
        except BrokenChunk:
            return _read(path, NEVER_CUT, describes)


def read_all(
    paths: Sequence[Path], describes: Callable[[str], bool], report: Callable[[int, int, str], None]
) -> Iterator[Recording]:
    """Read several traces; where they are scanned, on all cores. `report` gets files done, in all, at hand.

    What is raised is what reading one file after the other would raise first.
    """
    is_scanned = pays(paths)
    workers = min(len(paths), os.cpu_count() or 1) if is_scanned else 1
    if workers < 2:
        for done, path in enumerate(paths):
            report(done, len(paths), path.name)
            yield read_recording(path, describes=describes, is_scanned=is_scanned)
        return
    compiled()  # which threads must not do at once
    # threads do: unpacking and scanning leave the interpreter to others
    pool = ThreadPoolExecutor(workers)
    try:
        reading = [
            pool.submit(read_recording, path, describes=describes, is_scanned=is_scanned) for path in paths
        ]
        for done, (path, future) in enumerate(zip(paths, reading, strict=True)):
            report(done, len(paths), path.name)
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(path: Path, chunk_bytes: int, describes: Callable[[str], bool]) -> Recording:
    header, chunks = read_document(path, chunk_bytes)
    collected = EventColumns(str(path), describes)
    for events in chunks:
        _take(collected, events)
    return collected.finish(header)


def _take(collected: EventColumns, events: Iterable[Any]) -> None:
    """Sort a batch of events into the columns."""
    try:
        _sort(collected, events)
    except (TypeError, AttributeError) as error:  # a list or an object where a name or a number belongs
        raise TraceError(
            f"{collected.source}: an event near number {collected.count} isn't one of Kineto's ({error})"
        ) from None
    collected.end_batch()


def _sort(collected: EventColumns, events: Iterable[Any]) -> None:
    nothing: dict[str, Any] = {}
    index = collected.count - 1
    names, threads, category_of = collected.names, collected.threads, CATEGORIES.get
    host, device, notes = collected.host.batch, collected.device.batch, collected.notes.batch
    for index, event in enumerate(events, collected.count):
        if event.__class__ is not dict:
            raise TraceError(
                f"{collected.source}: event {index} is {type(event).__name__}, expected an object"
            )
        get = event.get
        if get("ph") != "X":
            if get("cat") == "fwdbwd":
                _take_flow(collected, index, event)
            continue
        category = category_of(get("cat", ""), 0)
        if not category:
            continue
        collected.count = index
        name = get("name", "")
        known = names.get(name)
        if known is None:
            known = collected.know(name)
        name_id, describes, is_step, is_ccl = known
        arguments = get("args")
        if arguments.__class__ is not dict:
            arguments = nothing
        of = arguments.get
        if category < KERNEL and not is_step:
            key = (get("pid"), get("tid"))
            thread = threads.get(key)
            if thread is None:
                thread = threads.setdefault(key, len(threads))
            if category == CALL:
                # start and length come first and the event's number last in every table
                correlation = of("correlation", -1)
                host.append((get("ts"), get("dur", 0), thread, name_id, 1, correlation, -1, -1, index))
            else:
                if describes:
                    collected.host_arguments[collected.host.done + len(host)] = arguments
                function, external = of("Record function id", -1), of("External id", -1)
                host.append((get("ts"), get("dur", 0), thread, name_id, 0, -1, function, external, index))
        elif KERNEL <= category <= MEMSET:
            if category == KERNEL and (is_ccl or "Collective name" in arguments):
                collected.device_arguments[collected.device.done + len(device)] = arguments
            stream, correlation = _stream(collected, event, arguments), of("correlation", -1)
            size = of("bytes", -1)
            device.append((get("ts"), get("dur", 0), category, name_id, stream, correlation, size, index))
        elif category == SYNC_RECORD:
            collected.add_record(event)
        else:
            thread = threads.setdefault((get("pid"), get("tid")), len(threads))
            notes.append((get("ts"), get("dur", 0), thread, name_id, index))
            collected.note_arguments.append(arguments if describes else nothing)
    collected.count = index + 1


def _take_flow(collected: EventColumns, index: int, event: dict[str, Any]) -> None:
    thread = collected.threads.setdefault((event.get("pid"), event.get("tid")), len(collected.threads))
    number, is_end = whole(event.get("id")), int(event.get("ph") == "f")
    collected.flows.batch.append((event.get("ts"), 0, thread, number, is_end, index))


def _stream(collected: EventColumns, event: dict[str, Any], arguments: dict[str, Any]) -> int:
    device = arguments.get("device", event.get("pid"))
    stream = arguments.get("stream")
    if stream is None:  # 2021 traces may say "stream 7" in place of the thread
        stream = str(event.get("tid", 0)).removeprefix("stream ")
    return collected.stream(device, stream)
