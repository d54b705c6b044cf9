"""Rules of the protocol and terms of the test, each broken on purpose.

`old` must occur exactly once in the file. `caught_by` are the test binaries of which at least one
must fail when `old` is replaced by `new`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    rule: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...] = ("test_system",)


MUTATIONS = (
    # --- terms of the test -----------------------------------------------------------------------
    Mutation(
        "a stray prefetch is charged",
        "csrc/policy/task_model.cc",
        "add(link.overhead_ns, stray_ns(link, write_back))",
        "link.overhead_ns",
    ),
    Mutation(
        "victims' write-back is charged",
        "csrc/policy/task_model.cc",
        "write_back_ns(link, std::min(missing_chunks, write_back.victims_chunks))",
        "int64_t{0}",
    ),
    Mutation(
        "the restore is charged",
        "csrc/policy/task_model.cc",
        "return add(before_ns, load_ns(link, chunks));",
        "return chunks > 0 ? before_ns : 0;",
    ),
    Mutation(
        "a layer is charged with the wait for its chunks",
        "csrc/policy/task_model.cc",
        "executed = std::max(executed, arrival_ns(layer.chunks - resident_chunks));",
        "",
        ("test_policy", "test_system"),
    ),
    Mutation(
        "a later deadline that has begun is charged",
        "csrc/policy/np_edf.cc",
        "if (task.deadline_ns > t) longest = std::max(longest, task.block_ns);",
        "",
    ),
    Mutation(
        "blocks are charged with what has landed, not with what is planned",
        "csrc/policy/charges.cc",
        "const uint32_t missing = arena.chunks - prefix_of(guaranteed, arena.key);",
        "const uint32_t missing = arena.chunks - prefix_of(planned, arena.key);",
    ),
    Mutation(
        "the memory condition counts every prefix",
        "csrc/policy/room.cc",
        "return kept_ - prefixes_[arena] + prefix +",
        "return prefix +",
        ("test_policy", "test_system"),
    ),
    # --- staged tasks ----------------------------------------------------------------------------
    Mutation(
        "staged: a run that has begun is in the way of every direct job",
        "csrc/policy/yielding.cc",
        "beside.outside_block_ns = std::max(beside.outside_block_ns, task.run_ns);",
        "(void)task;",
        ("test_policy",),
    ),
    Mutation(
        "staged: the stage is held for lead and run",
        "csrc/policy/yielding.cc",
        "__builtin_add_overflow(task.lead_ns, task.run_ns, &block_ns)",
        "__builtin_add_overflow(task.lead_ns, 0, &block_ns)",
        ("test_policy",),
    ),
    Mutation(
        "staged: a direct job that began before the window delays the stage",
        "csrc/policy/np_edf.cc",
        "const Wide reach_ns = static_cast<Wide>(t) + other.reach_ns;",
        "const Wide reach_ns = static_cast<Wide>(t);",
        ("test_policy",),
    ),
    Mutation(
        "staged: what a lead asked for in vain is charged to the direct job",
        "csrc/policy/charges.cc",
        "stage_delay_ns(link, charge.block_ns, missing_chunks, write_back)",
        "charge.block_ns",
        ("test_policy",),
    ),
    Mutation(
        "staged: memory for the lead beside every direct job",
        "csrc/policy/memory.cc",
        "std::max(direct + lead, run)",
        "std::max({direct, lead, run})",
        ("test_policy",),
    ),
    Mutation(
        "staged: more in flight for leads is charged to direct jobs",
        "csrc/policy/charges.cc",
        "staged.empty() ? input.link : staging_link(input.link)",
        "input.link",
        ("test_policy",),
    ),
    # --- rules of the protocol -------------------------------------------------------------------
    Mutation(
        "the earliest deadline goes first",
        "csrc/arbiter/dispatch.cc",
        "return std::tie(a->order_ns, a->sequence) < std::tie(b->order_ns, b->sequence);",
        "return a->sequence < b->sequence;",
    ),
    Mutation(
        "a job is chosen whether or not it is resident",
        "csrc/arbiter/dispatch.cc",
        "return std::tie(a->order_ns, a->sequence) < std::tie(b->order_ns, b->sequence);",
        "const bool a_there = a->task->arena->landed_chunks == a->task->arena->chunks;\n"
        "    const bool b_there = b->task->arena->landed_chunks == b->task->arena->chunks;\n"
        "    if (a_there != b_there) return a_there;\n"
        "    return std::tie(a->order_ns, a->sequence) < std::tie(b->order_ns, b->sequence);",
    ),
    Mutation(
        "a late job is not promoted",
        "csrc/arbiter/dispatch.cc",
        "const bool b_promised = promised(*b);",
        "const bool b_promised = promised(*b);\n"
        "    if (a->demoted != b->demoted) return a->demoted;",
    ),
    Mutation(
        "an old stamp takes nothing from others",
        "csrc/arbiter/jobs.cc",
        "job.order_ns =\n"
        "      std::max(job.deadline_ns, "
        "now_ns_ - config_.round_trip_ns + task.timing.deadline_ns);",
        "job.order_ns = job.deadline_ns;",
    ),
    Mutation(
        "the running job is no victim",
        "csrc/arbiter/memory.cc",
        "if (!answers(arena) || in_use || arena.lost_jobs > 0",
        "(void)in_use;\n  if (!answers(arena) || arena.lost_jobs > 0",
        ("test_system", "test_arbiter"),
    ),
    Mutation(
        "planned prefixes are no victims",
        "csrc/arbiter/memory.cc",
        "return chunks - std::min(chunks, arena.planned_chunks);",
        "return chunks;",
    ),
    Mutation(
        "one quantum is in flight at most",
        "csrc/arbiter/memory.cc",
        "const uint32_t most = quantum(device);",
        "const uint32_t most = 16 * quantum(device);",
    ),
    Mutation(
        "nothing is restored beside a holder that has begun and still restores",
        "csrc/arbiter/memory.cc",
        "if (device.holder != nullptr && !device.holder->complete) return;",
        "if (device.holder != nullptr && !device.holder->begun) return;",
        ("test_arbiter",),
    ),
    Mutation(
        "a job that may have begun keeps the device until it has ended",
        "csrc/arbiter/jobs.cc",
        "if (job.spans() || !may_have_begun(job)) {",
        "if (true) {",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "best effort starts only if its block is part of every promise",
        "csrc/arbiter/dispatch.cc",
        "if (block_ns <= device.best_effort_block_ns) return true;",
        "return true;",
    ),
    # --- changes at run time ---------------------------------------------------------------------
    Mutation(
        "what left counts until the device is idle",
        "csrc/arbiter/admission.cc",
        "if (edf() && task.state == TaskState::admitted && task.block_ns > 0) {",
        "if (false) {",
        ("test_system", "test_arbiter"),
    ),
    Mutation(
        "a prefix that has grown counts from an idle instant on",
        "csrc/arbiter/admission.cc",
        "std::min(in_window ? arena->guaranteed_chunks : there,",
        "std::min(in_window && false ? arena->guaranteed_chunks : there,",
        ("test_system", "test_arbiter"),
    ),
    Mutation(
        "changes wait for an idle device",
        "csrc/arbiter/admission.cc",
        "if (device.holder != nullptr) return false;\n  return std::none_of(",
        "return true;\n  return std::none_of(",
        ("test_system", "test_arbiter"),
    ),
    Mutation(
        "best effort that runs is let end before a promise begins",
        "csrc/arbiter/admission.cc",
        "if (!decision.admitted || !holder_allows(device, decision)) return false;",
        "if (!decision.admitted) return false;",
        ("test_system", "test_arbiter"),
    ),
    Mutation(
        "jobs released before the promise count from its beginning",
        "csrc/arbiter/admission.cc",
        "job->eligible_ns = std::max(job->eligible_ns, earliest_ns);",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "a job that waits for the memory of a client that hangs has not hung",
        "csrc/arbiter/deadlines.cc",
        "device.holder->progress_ns = now_ns_;",
        "",
        ("test_arbiter", "test_system"),
    ),
    # --- tasks that span devices -----------------------------------------------------------------
    Mutation(
        "a job that spans devices starts only when all of them are free",
        "csrc/arbiter/spanning.cc",
        "if (device.holder != nullptr) turn = Turn::soon;",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "promised work goes before a job that spans devices on each of them",
        "csrc/arbiter/spanning.cc",
        "if (promised(before)) return turn = Turn::not_yet;",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "later best-effort work does not overtake a job that spans devices",
        "csrc/arbiter/dispatch.cc",
        "if (turn == Turn::soon) return false;",
        "if (turn == Turn::soon) continue;",
        ("test_arbiter",),
    ),
    Mutation(
        "the hold of a job that spans devices is the longest of its parts",
        "csrc/arbiter/spanning.cc",
        "longest_ns = std::max(longest_ns, part->block_ns);",
        "longest_ns = task.block_ns;",
        ("test_arbiter",),
    ),
)
