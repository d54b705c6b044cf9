#include "csrc/engine/restore_lane.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <string>
#include <utility>

#include "csrc/driver/await_event.h"

namespace rtswap::engine {
namespace {

// Enough that the copy engine has work while the lane sleeps, few enough that a failure has little
// to undo.
constexpr size_t kMostInFlight = 16;

uint32_t landed_of(Arena& arena) {
  const std::lock_guard lock(arena.mutex);
  return arena.state.landed();
}

}  // namespace

void RestoreLane::run() {
  while (true) {
    if (current_ == nullptr) {
      // With copies in flight it is they who are waited for, and the queue is looked at in between.
      auto work =
          in_flight_.empty() ? dispatcher_.restores().pop() : dispatcher_.restores().try_pop();
      if (work) {
        begin(*std::move(work));
      } else if (in_flight_.empty()) {
        break;
      }
    }
    const bool room = in_flight_.size() < kMostInFlight;
    const bool advances = current_ != nullptr && room;
    if (advances) advance();
    land(!advances);
    settle_doomed();
  }
  streams_.restore.close();
}

void RestoreLane::begin(RestoreWork work) {
  auto transfer = std::make_shared<Transfer>();
  transfer->arena = std::move(work.arena);
  transfer->command = std::move(work.command);
  Arena& arena = *transfer->arena;
  const bool alone = std::none_of(open_.begin(), open_.end(), [&](const TransferPtr& other) {
    return other->arena == transfer->arena;
  });
  bool fits = false;
  {
    const std::lock_guard lock(arena.mutex);
    // Without a restore in progress, mapped positions that have not landed are leftovers.
    const uint32_t expected = alone ? arena.state.landed() : arena.state.mapped();
    fits = transfer->command.first_position == expected;
  }
  open_.push_back(transfer);
  if (!fits && arena.restore_failed) {
    // Was on its way when a restore before it failed; that report covered it.
    finish(transfer);
    return;
  }
  Status ready = fits ? (alone ? residency_.unmap_leftovers(arena) : Status())
                      : fail(ErrorCode::protocol_violation,
                             "a restore of " + arena.label + " at position " +
                                 std::to_string(transfer->command.first_position) +
                                 " does not continue its resident prefix");
  if (ready) ready = prepare(*transfer);
  if (!ready) {
    doom(transfer, ready.error());
    return;
  }
  arena.restore_failed = false;
  current_ = transfer;
}

Status RestoreLane::prepare(Transfer& transfer) {
  const RestoreCommand& command = transfer.command;
  for (const uint32_t chunk : command.chunks) {
    if (chunk < bank_.chunk_count()) continue;
    return fail(ErrorCode::protocol_violation,
                "a restore of " + transfer.arena->label + " names chunk " + std::to_string(chunk) +
                    " of a bank of " + std::to_string(bank_.chunk_count()));
  }
  RTSWAP_TRY(streams_.restore.open());
  const std::lock_guard lock(transfer.arena->mutex);
  const ArenaState& state = transfer.arena->state;
  if (command.chunks.size() > state.total() - command.first_position) {
    return fail(ErrorCode::protocol_violation, "a restore of " + transfer.arena->label +
                                                   " goes beyond its " +
                                                   std::to_string(state.total()) + " chunks");
  }
  transfer.runs = state.split(
      {command.first_position, static_cast<uint32_t>(command.chunks.size())}, bank_.chunk_bytes());
  return {};
}

void RestoreLane::advance() {
  const TransferPtr transfer = current_;
  Batch batch{.transfer = transfer,
              .run = transfer->runs[transfer->next_run],
              .event = std::nullopt,
              .last = transfer->next_run + 1 == transfer->runs.size()};
  if (Status started = start_batch(*transfer, batch); !started) {
    doom(transfer, started.error());
    return;
  }
  ++transfer->next_run;
  if (batch.last) current_ = nullptr;
  in_flight_.push_back(std::move(batch));
}

Status RestoreLane::start_batch(Transfer& transfer, Batch& batch) {
  Arena& arena = *transfer.arena;
  const Run& run = batch.run;
  const auto chunks =
      std::span(transfer.command.chunks)
          .subspan(run.positions.first - transfer.command.first_position, run.positions.count);
  RTSWAP_TRY(residency_.map(arena, run, chunks));
  if (run.copy_bytes == 0) return {};
  RTSWAP_ASSIGN(const driver::StreamHandle stream, streams_.restore.open());
  RTSWAP_TRY(driver_.copy_to_device(run.address, run.host, run.copy_bytes, stream));
  auto event = streams_.restore.record();
  if (!event) {
    doubt_copies(arena);
    return fail(std::move(event).error());
  }
  batch.event = *event;
  return {};
}

Result<bool> RestoreLane::has_completed(const Batch& batch, bool wait) {
  if (!batch.event) return true;
  if (!wait) return driver_.query_event(*batch.event);
  // Somebody waits for the last one; behind others the link stays busy meanwhile.
  const bool last = in_flight_.size() == 1;
  RTSWAP_TRY(last ? driver::await_event(driver_, *batch.event)
                  : driver_.synchronize_event(*batch.event));
  return true;
}

void RestoreLane::land(bool wait_for_oldest) {
  bool wait = wait_for_oldest;
  while (!in_flight_.empty()) {
    const Result<bool> completed = has_completed(in_flight_.front(), std::exchange(wait, false));
    if (completed && !*completed) break;
    const Batch batch = std::move(in_flight_.front());
    in_flight_.pop_front();
    if (batch.event) streams_.restore.give_back(*batch.event);
    const TransferPtr& transfer = batch.transfer;
    if (!completed) fail_copy(batch, completed.error());
    if (!completed || !batch.lands) continue;
    if (landing_ != transfer->arena) report_landed();
    {
      const std::lock_guard lock(transfer->arena->mutex);
      transfer->arena->state.landed_more(batch.run);
    }
    landing_ = transfer->arena;
    // One that failed is ended by settle_doomed().
    if (batch.last && !transfer->error) {
      report_landed();
      finish(transfer);
    }
  }
  report_landed();
}

void RestoreLane::report_landed() {
  if (landing_ == nullptr) return;
  const ArenaPtr arena = std::exchange(landing_, nullptr);
  listener_.on_restored(arena->id, landed_of(*arena));
}

void RestoreLane::finish(const TransferPtr& transfer) {
  std::erase(open_, transfer);
  dispatcher_.finished(transfer->arena);
}

void RestoreLane::fail_copy(const Batch& batch, const Error& error) {
  const ArenaPtr& arena = batch.transfer->arena;
  doubt_copies(*arena);
  doom(batch.transfer, error);
  for (Batch& behind : in_flight_) {
    if (behind.transfer->arena == arena) behind.lands = false;
  }
}

void RestoreLane::doom(const TransferPtr& transfer, const Error& error) {
  if (current_ != nullptr && current_->arena == transfer->arena) current_ = nullptr;
  const auto first = std::find(open_.begin(), open_.end(), transfer);
  for (auto it = first; it != open_.end(); ++it) {
    if ((*it)->arena == transfer->arena && !(*it)->error) (*it)->error = error;
  }
}

void RestoreLane::settle_doomed() {
  const auto is_doomed = [](const TransferPtr& transfer) { return transfer->error.has_value(); };
  if (std::none_of(open_.begin(), open_.end(), is_doomed)) return;
  while (!in_flight_.empty()) land(true);
  while (true) {
    const auto first = std::find_if(open_.begin(), open_.end(), is_doomed);
    if (first == open_.end()) return;
    const ArenaPtr arena = (*first)->arena;
    Error error = *(*first)->error;
    // What cannot be unmapped now is tried again before the arena's next command.
    if (Status cleared = residency_.unmap_leftovers(*arena); !cleared) {
      error.message += "; the memory could not be unmapped either: " + cleared.error().message;
    }
    arena->restore_failed = true;
    listener_.on_restore_failed(arena->id, landed_of(*arena), error);
    std::vector<TransferPtr> ended;
    std::copy_if(open_.begin(), open_.end(), std::back_inserter(ended),
                 [&](const TransferPtr& t) { return t->arena == arena && t->error; });
    for (const TransferPtr& transfer : ended) finish(transfer);
  }
}

}  // namespace rtswap::engine
