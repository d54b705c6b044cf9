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
        "add(landed_ns, load_ns(link, stray_chunks, stray_chunks + missing_chunks))",
        "landed_ns",
    ),
    Mutation(
        "a stray prefetch changes hands while a job asks for what it lacks",
        "csrc/policy/task_model.cc",
        "add(asked_ns, stray_chunks * link.chunk_cost_ns)",
        "asked_ns",
    ),
    Mutation(
        "the first batch changes hands before anything is copied",
        "csrc/policy/task_model.cc",
        "add(first_ns, std::max(copies_ns, chunks * link.chunk_cost_ns));",
        "std::max(copies_ns, chunks * link.chunk_cost_ns + 0 * first_ns);",
        ("test_policy", "test_system"),
    ),
    Mutation(
        "chunks change hands no faster than they are mapped",
        "csrc/policy/task_model.cc",
        "add(first_ns, std::max(copies_ns, chunks * link.chunk_cost_ns));",
        "add(first_ns, copies_ns);",
        ("test_policy", "test_system"),
    ),
    Mutation(
        "victims unmap in turn until the first batch is out",
        "csrc/policy/task_model.cc",
        "turns_ns(link, 2 * batch, asked_chunks, 0)",
        "batch * unmap_ns(link)",
    ),
    Mutation(
        "victims unmap in turn where no copy hides it",
        "csrc/policy/task_model.cc",
        "hidden ? loads_ns : add(loads_ns, turns_ns(link, chunks, asked_chunks, 1))",
        "hidden ? loads_ns : loads_ns",
    ),
    Mutation(
        "what leaves the own arena waits for victims that unmap in turn",
        "csrc/policy/task_model.cc",
        "turns_ns(link, leaving_chunks, missing_chunks, 0)",
        "0",
    ),
    Mutation(
        "what is written back of the own arena waits for victims",
        "csrc/policy/task_model.cc",
        "written_chunks + others_chunks",
        "written_chunks + 0 * others_chunks",
        ("test_policy",),
    ),
    Mutation(
        "each arena that memory can be taken from is a victim",
        "csrc/policy/charges.cc",
        "all.arenas += prefix_of(planned, arena.key) < arena.chunks;",
        "all.arenas = 1;",
        ("test_policy", "test_system"),
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
        "return add(before_ns, load_ns(link, chunks, missing_chunks));",
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
        "__builtin_add_overflow(lead_ns, task.run_ns, &block_ns)",
        "__builtin_add_overflow(lead_ns, 0, &block_ns)",
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
        "staged: a direct job that restores stalls the lead",
        "csrc/policy/yielding.cc",
        "other.stall_ns = task.stall_ns;",
        "other.stall_ns = 0;",
        ("test_policy",),
    ),
    Mutation(
        "staged: each run may have to wait, not one in a window",
        "csrc/policy/np_edf.cc",
        "count * other.stall_ns + jobs * *other.wait_ns",
        "count * other.stall_ns + *other.wait_ns",
        ("test_policy",),
    ),
    Mutation(
        "staged: direct jobs that came during an earlier run are waited for",
        "csrc/policy/yielding.cc",
        "for (const StagedDemand& task : set.staged) before_ns = std::max(before_ns, task.run_ns);",
        "",
        ("test_policy",),
    ),
    Mutation(
        "staged: of what came during an earlier run, a lead covers what takes no longer",
        "csrc/policy/yielding.cc",
        "std::max(task.lead_ns, waits.least_lead_ns)",
        "task.lead_ns",
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
        "const uint32_t safe = std::max(arena.planned_chunks, leads",
        "const uint32_t safe = std::max(0U, leads",
    ),
    Mutation(
        "one quantum is in flight at most",
        "csrc/arbiter/memory.cc",
        "const uint32_t most = most_in_flight(device);",
        "const uint32_t most = 16 * most_in_flight(device);",
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
    Mutation(
        "long best effort does not begin before a job that came early",
        "csrc/arbiter/dispatch.cc",
        "[this](const Job* other) { return promised(*other); }",
        "[](const Job*) { return false; }",
        ("test_arbiter",),
    ),
    Mutation(
        "jobs that wait together compete a period apart",
        "csrc/arbiter/jobs.cc",
        "(others_wait || task.last_window == device.window)",
        "task.last_window == device.window",
        ("test_arbiter",),
    ),
    Mutation(
        "what paused tasks have to copy out first is charged",
        "csrc/policy/charges.cc",
        "Exposure all = input.others;",
        "Exposure all;",
        ("test_arbiter",),
    ),
    Mutation(
        "what could be taken of closed arenas counts until the device is idle",
        "csrc/arbiter/admission.cc",
        "others = counts ? device.gone : policy::Exposure{};",
        "others = {};",
        ("test_arbiter",),
    ),
    Mutation(
        "what could be taken before counts until the device is idle",
        "csrc/arbiter/admission.cc",
        "    if (counts) {\n",
        "    if (false) {\n",
        ("test_arbiter",),
    ),
    # --- rules of the stage (7 to 13) ------------------------------------------------------------
    Mutation(
        "stage: it is never taken away",
        "csrc/arbiter/stage.cc",
        "if (device.stage != nullptr || device.staged.empty()",
        "if (device.stage != nullptr && device.stage->state == Job::State::waiting) {\n"
        "    device.stage = nullptr;\n  }\n"
        "  if (device.stage != nullptr || device.staged.empty()",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "stage: the earliest deadline gets it",
        "csrc/arbiter/dispatch.cc",
        "return std::tie(a->order_ns, a->sequence) < std::tie(b->order_ns, b->sequence);",
        "if (staged(*a)) return a->sequence < b->sequence;\n"
        "    return std::tie(a->order_ns, a->sequence) < std::tie(b->order_ns, b->sequence);",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: its holder goes after every direct job",
        "csrc/arbiter/dispatch.cc",
        "if (staged(*a) != staged(*b)) return staged(*b);",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: a run begins when its lead is there",
        "csrc/policy/stage_rules.cc",
        "if (view.leaving || view.landed_chunks < view.lead_end) return false;",
        "if (view.leaving) return false;",
        ("test_arbiter",),
    ),
    Mutation(
        "shedding: the search for one that leaves is not that for the next",
        "csrc/arbiter/admission.cc",
        "if (device.shedding && is_in(task)) device.shedding->seek_anew();",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "shedding: arenas do not grow meanwhile",
        "csrc/arbiter/arenas.cc",
        "if (device.shedding) {  // growth",
        "if (false) {  // growth",
        ("test_arbiter",),
    ),
    Mutation(
        "what leaves of a job's own arena is charged",
        "csrc/policy/task_model.cc",
        "std::min(missing_chunks, most_in_flight(link));",
        "0 * std::min(missing_chunks, most_in_flight(link));",
        ("test_policy",),
    ),
    Mutation(
        "a job begins when its tail is gone",
        "csrc/arbiter/dispatch.cc",
        "if (!job.begun && arena.landed_chunks >= job.first_chunks && arena.revokes.empty()) {",
        "if (!job.begun && arena.landed_chunks >= job.first_chunks) {",
        ("test_arbiter",),
    ),
    Mutation(
        "another plan may suit those that are loading",
        "csrc/arbiter/admission.cc",
        "device.promote_due = true;  // it may suit those that are loading, too",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "what is kept for one that is loading is copied out for nobody",
        "csrc/arbiter/admission.cc",
        "exposed_beyond(*arena, chunks, policy::prefix_of(prefixes, arena->key));",
        "exposed_beyond(*arena, chunks, in_set ? policy::prefix_of(prefixes, arena->key) : 0);",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: a run that lacks chunks waits for strays",
        "csrc/policy/stage_rules.cc",
        "return view.landed_chunks == view.arena_chunks || view.others_in_flight == 0;",
        "return true;",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: one that lacks nothing does not wait for strays",
        "csrc/policy/stage_rules.cc",
        "return view.landed_chunks == view.arena_chunks || view.others_in_flight == 0;",
        "return view.others_in_flight == 0;",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: while it is held nothing else is restored",
        "csrc/arbiter/memory.cc",
        "restore_lead(device, budget);\n    return;",
        "restore_lead(device, budget);",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: what the job on the device lacks goes before the lead",
        "csrc/arbiter/memory.cc",
        "if (device.holder != nullptr && !device.holder->complete) return;",
        "if (device.holder != nullptr && !device.holder->complete && device.stage == nullptr) {\n"
        "    return;\n  }",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: restoring ahead ends with the lead",
        "csrc/arbiter/stage.cc",
        "const uint32_t end = lead_end(device, arena);\n  // What",
        "const uint32_t end = arena.chunks;\n  // What",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: a lead streams",
        "csrc/arbiter/admission.cc",
        "device.stage == nullptr ? link.prefetch_chunks : policy::staging_link(link).lead_chunks",
        "link.prefetch_chunks",
        ("test_arbiter",),
    ),
    Mutation(
        "a lead is asked for once",
        "csrc/arbiter/stage.cc",
        "device.ledger.held(arena.key) + incoming(device);",
        "device.ledger.held(arena.key);",
        ("test_arbiter",),
    ),
    Mutation(
        "memory is asked back in batches",
        "csrc/arbiter/memory.cc",
        "policy::batches_of(link_of(device), take.chunks)",
        "std::vector<uint32_t>{take.chunks}",
    ),
    Mutation(
        "prefixes of the plan are restored before jobs without promise",
        "csrc/arbiter/memory.cc",
        "std::any_of(jobs.begin(), other, restore_ahead) || prefetch_plan(device, budget) ||\n"
        "      std::any_of(other, jobs.end(), restore_ahead)",
        "std::any_of(jobs.begin(), jobs.end(), restore_ahead) || prefetch_plan(device, budget)",
    ),
    Mutation(
        "stage: the lead of its holder is no victim",
        "csrc/arbiter/memory.cc",
        "leads ? lead_end(device, arena) : 0",
        "leads ? 0U : 0U",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: best effort waits while a staged job is there",
        "csrc/arbiter/dispatch.cc",
        "if (staged_work_waits(device)) return false;",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: a direct job does not compete early",
        "csrc/arbiter/stage.cc",
        "if (device.staged.empty() || !promised(job) || staged(job)) return job.eligible_ns;",
        "return job.eligible_ns;",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: modes change at idle instants",
        "csrc/policy/stage_rules.cc",
        "return now == next && !joins && !left;",
        "return !joins && !left;",
        ("test_arbiter",),
    ),
    Mutation(
        "an instant is idle when no more is in flight than direct jobs expect",
        "csrc/arbiter/admission.cc",
        "return !edf() || in_flight",
        "return true || in_flight",
        ("test_arbiter",),
    ),
    Mutation(
        "a cancelled job keeps the device while too much of its memory comes in",
        "csrc/arbiter/memory.cc",
        "return in_flight(device, nullptr) + incoming(device) > charged_chunks;",
        "return false && charged_chunks > 0;",
    ),
    Mutation(
        "stage: a cancelled job keeps it while too much of its lead comes in",
        "csrc/arbiter/stage.cc",
        " || strays_delay_leads(device)",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: what waits for an idle instant is decided there",
        "csrc/arbiter/admission.cc",
        "device.review_due = true;  // at the next idle instant",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: a task that joins waits for an idle instant",
        "csrc/policy/stage_rules.cc",
        "return now == next && !joins && !left;",
        "return now == next && !left;",
        ("test_arbiter",),
    ),
    Mutation(
        "stage: without a promise, a staged job holds the device for its lead, too",
        "csrc/arbiter/spanning.cc",
        "return block_of(task) + task.lead_ns;",
        "return block_of(task);",
        ("test_arbiter",),
    ),
    # --- changes at run time ---------------------------------------------------------------------
    Mutation(
        "what left counts until the device is idle",
        "csrc/arbiter/admission.cc",
        "if (edf() && task.state == TaskState::admitted && task.block_ns > 0) {",
        "if (false) {",
        ("test_arbiter",),
    ),
    Mutation(
        "a prefix that has grown counts from an idle instant on",
        "csrc/arbiter/admission.cc",
        "std::min(in_window ? arena->guaranteed_chunks : there,",
        "std::min(in_window && false ? arena->guaranteed_chunks : there,",
        ("test_arbiter",),
    ),
    Mutation(
        "changes wait for an idle device",
        "csrc/arbiter/admission.cc",
        "if (device.holder != nullptr) return false;\n  const bool waits",
        "return true;\n  const bool waits",
        ("test_system", "test_arbiter"),
    ),
    Mutation(
        "best effort that runs is let end before a promise begins",
        "csrc/arbiter/admission.cc",
        "if (!found.decision.admitted || !holder_allows(device, found.decision)) return false;",
        "if (!found.decision.admitted) return false;",
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
    # --- overload --------------------------------------------------------------------------------
    Mutation(
        "overload: the promises of the more important are kept first",
        "csrc/arbiter/shedding.cc",
        "return a->importance > b->importance;",
        "return a->importance < b->importance;",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "overload: of equals the older keeps its promise",
        "csrc/arbiter/shedding.cc",
        "if (task->in_question) tasks.push_back(task);",
        "if (task->in_question) tasks.insert(tasks.begin(), task);",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "overload: one that cannot keep its promise takes no other with it",
        "csrc/arbiter/shedding.cc",
        "    end_promise(device, *tasks.front(), effort);\n",
        "    end_promise(device, *tasks.front(), effort);\n"
        "    for (Task* task : in_question(device)) {\n      task->in_question = false;\n"
        "      end_promise(device, *task, effort);\n    }\n",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "overload: a plan for which all memory is there is looked for",
        "csrc/arbiter/shedding.cc",
        "sought == PlanSought::of_landed && i <",
        "sought == PlanSought::in_force && i <",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "overload: what has landed counts while bounds are suspended",
        "csrc/arbiter/admission.cc",
        "return !idle(device) && device.suspended.empty();",
        "return !idle(device);",
        ("test_arbiter",),
    ),
    Mutation(
        "overload: work without a promise goes by importance",
        "csrc/arbiter/dispatch.cc",
        "return std::tie(b->task->importance, a->sequence) <\n"
        "             std::tie(a->task->importance, b->sequence);",
        "return a->sequence < b->sequence;",
        ("test_arbiter",),
    ),
    Mutation(
        "overload: promised jobs do not go by importance",
        "csrc/arbiter/dispatch.cc",
        "if (staged(*a) != staged(*b)) return staged(*b);",
        "if (staged(*a) != staged(*b)) return staged(*b);\n"
        "    if (a->task->importance != b->task->importance) {\n"
        "      return a->task->importance > b->task->importance;\n    }",
        ("test_arbiter",),
    ),
    Mutation(
        "overload: a hold that is too long suspends promises",
        "csrc/arbiter/overload.cc",
        "if (job.block_ns == 0 || held_ns <= job.block_ns) return;",
        "if (job.block_ns >= 0) return;",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "overload: also where who waited has become too late",
        "csrc/arbiter/deadlines.cc",
        "if (promised_work_waited && device.holder != nullptr) note_hold(device, *device.holder);",
        "",
    ),
    Mutation(
        "overload: a hold within its block suspends nothing",
        "csrc/arbiter/overload.cc",
        "held_ns <= job.block_ns) return;",
        "held_ns <= job.block_ns / 2) return;",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "overload: promises are suspended until the device is idle",
        "csrc/arbiter/overload.cc",
        "return !device.shedding && idle(device) &&",
        "return !device.shedding && device.holder == nullptr &&",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "overload: and while a job that hangs may use it",
        "csrc/arbiter/overload.cc",
        "idle(device) &&\n         std::none_of(device.arenas.begin(), device.arenas.end(), "
        "has_lost_job);",
        "idle(device);",
        ("test_arbiter",),
    ),
    Mutation(
        "overload: who joins beside a job of unknown length is told",
        "csrc/arbiter/admission.cc",
        "  suspend_for_unknown_length(device);\n  device.promote_due = true;",
        "  device.promote_due = true;",
        ("test_arbiter",),
    ),
    Mutation(
        "overload: a slower link suspends promises",
        "csrc/arbiter/overload.cc",
        "suspend(device, nullptr, why);\n  shed(device, why);\n  suspend(device, nullptr, why);",
        "shed(device, why);",
        ("test_arbiter",),
    ),
    Mutation(
        "overload: and while promises are in question, though the device is idle",
        "csrc/arbiter/overload.cc",
        "return !device.shedding && idle(device) &&",
        "return idle(device) &&",
        ("test_arbiter",),
    ),
    Mutation(
        "overload: going through promises goes on when no message waits",
        "csrc/arbiter/deadlines.cc",
        "if (device.shedding) next_ns = now_ns_;",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "overload: whose turn comes later is in the tests as one without a promise",
        "csrc/arbiter/admission.cc",
        " && !task->in_question",
        "",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "overload: a newcomer waits until it is known who keeps a promise",
        "csrc/arbiter/admission.cc",
        "if (device.shedding) return true;",
        "",
        ("test_arbiter",),
    ),
    Mutation(
        "overload: so does whoever was loading before",
        "csrc/arbiter/dispatch.cc",
        "if (device.shedding) return;",
        "",
        ("test_arbiter", "test_system"),
    ),
    Mutation(
        "overload: so does a new timing",
        "csrc/arbiter/tasks.cc",
        "(idle(device) && !device.shedding)",
        "idle(device)",
        ("test_arbiter",),
    ),
    Mutation(
        "overload: a link that is slower still puts all promises in question again",
        "csrc/arbiter/shedding.cc",
        "  if (!edf()) return;\n  put_in_question",
        "  if (!edf() || device.shedding) return;\n  put_in_question",
        ("test_arbiter",),
    ),
    # --- tasks that span devices -----------------------------------------------------------------
    Mutation(
        "a job that spans devices starts only when all of them are free",
        "csrc/arbiter/spanning.cc",
        "if (device.holder != nullptr || strays_delay_blocks(device)) turn = Turn::soon;",
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
    Mutation(
        "the baseline moves one model out before the next comes in",
        "csrc/arbiter/memory.cc",
        "edf() ? policy::batches_of(link_of(device), take.chunks) : std::vector{take.chunks};",
        "policy::batches_of(link_of(device), take.chunks);",
        ("test_arbiter",),
    ),
    Mutation(
        "an overrun that fits into the block ends no promise",
        "csrc/arbiter/jobs.cc",
        "const bool fits = now_ns_ - job.held_ns <= job.block_ns;",
        "const bool fits = false;",
        ("test_arbiter",),
    ),
    Mutation(
        "a hold that makes only work without a promise late suspends nothing",
        "csrc/arbiter/deadlines.cc",
        "if (promised_work_waited && device.holder",
        "if (!late.empty() && device.holder",
        ("test_arbiter",),
    ),
    Mutation(
        "a link that is slower only for evictions is a slower link",
        "csrc/arbiter/overload.cc",
        '  compare("evict", now.evict_bytes_per_s, before.evict_bytes_per_s);\n',
        "",
        ("test_arbiter",),
    ),
)
