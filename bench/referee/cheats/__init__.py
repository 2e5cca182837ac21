"""Kinds of cheats, each for any operation: a function gets an honest kernel and returns another.

Most are our own versions of published kernels that passed a test or misled a clock; docs/referee.md
has the sources. Some are new.
"""

from __future__ import annotations

from collections.abc import Callable

from referee.cheats.common import Kernel
from referee.cheats.memory import (
    cache_by_content_sample,
    cache_by_identity,
    cache_by_pointer,
    cache_by_shape,
    changes_inputs,
    freed_memory,
    reads_frames,
    replays_a_file,
    returns_a_view_of_an_input,
    stale_output_buffer,
    steals_the_reference,
    unwritten_tail,
)
from referee.cheats.numbers import (
    bf16_inputs,
    constant,
    fp16_inputs,
    half_output,
    ignores_strides,
    nan_everywhere,
    nan_for_infinite,
    only_the_tested_shape,
    random_noise,
    skips_last_row,
    skips_tail_columns,
    tf32,
    zeros,
)
from referee.cheats.watching import (
    another_process,
    background_thread,
    batches_ahead,
    falls_back_to_library,
    hides_its_time,
    lazy_result,
    looks_at_the_stack,
    loses_digits_later,
    patches_clocks,
    patches_the_comparison,
    right_only_while_tested,
)

CHEATS: dict[str, Callable[[Kernel], Kernel]] = {
    each.__name__: each
    for each in (
        cache_by_pointer, cache_by_identity, cache_by_shape, cache_by_content_sample,
        replays_a_file, stale_output_buffer, unwritten_tail, freed_memory, steals_the_reference,
        reads_frames, changes_inputs, returns_a_view_of_an_input, lazy_result, background_thread,
        another_process, batches_ahead, patches_clocks, hides_its_time, patches_the_comparison,
        right_only_while_tested, looks_at_the_stack, loses_digits_later, falls_back_to_library,
        only_the_tested_shape, ignores_strides, skips_last_row, skips_tail_columns, zeros,
        constant, nan_everywhere, nan_for_infinite, fp16_inputs, bf16_inputs, half_output, tf32,
        random_noise,
    )
}  # fmt: skip
