// After a lost link: connect again, tell the arbiter what is held, and go on.
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "csrc/client/core.h"

namespace rtswap::client {
namespace {

constexpr std::chrono::milliseconds kBetweenAttempts{200};

}  // namespace

void Core::reconnect_until_ended() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return closing_ || phase_ != Phase::connected; });
    if (closing_ || phase_ == Phase::ended) return;
    lock.unlock();
    const Status resumed = try_to_resume();
    lock.lock();
    if (resumed || closing_ || phase_ == Phase::ended) continue;
    phase_ = Phase::lost;
    lock.unlock();
    release_link();
    lock.lock();
    changed_.wait_for(lock, kBetweenAttempts, [this] { return closing_; });
  }
}

Status Core::try_to_resume() {
  release_link();
  {
    // A session that comes back runs no job, and its memory may be asked back at once.
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return closing_ || !has_running_jobs(); });
    if (closing_) return fail(*unusable());
  }
  const Interrupted when_closing = [this] {
    const std::lock_guard lock(mutex_);
    return closing_;
  };
  RTSWAP_ASSIGN(std::shared_ptr<protocol::Link> link, source_->connect(when_closing));
  RTSWAP_TRY(offer_banks(*link, when_closing));
  RTSWAP_ASSIGN(protocol::Hello hello, describe_holdings());
  RTSWAP_TRY(greet(link, hello, when_closing));
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::connecting) return fail(reason_);
  phase_ = Phase::connected;
  reopen(hello);
  changed_.notify_all();
  return {};
}

// A restarted arbiter has lost its chunks; whoever has descriptors of them gives copies back.
Status Core::offer_banks(protocol::Link& link, const Interrupted& interrupted) {
  std::vector<std::shared_ptr<Device>> devices;
  {
    const std::lock_guard lock(mutex_);
    devices = devices_;
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    if (devices[i] == nullptr) continue;  // of a device that is gone nothing is wanted
    const bank::Bank& bank = devices[i]->bank();
    RTSWAP_TRY(link.offer_chunks(bank.id(), descriptions_[i].uuid, bank.chunk_bytes(),
                                 bank.descriptors(), interrupted));
  }
  return {};
}

Result<protocol::Hello> Core::describe_holdings() {
  protocol::Hello hello;
  hello.process_name = options_.process_name;
  hello.library_version = options_.library_version;
  hello.pid = getpid();
  std::vector<std::pair<engine::ArenaId, std::shared_ptr<Device>>> arenas;
  {
    const std::lock_guard lock(mutex_);
    hello.resumed_session = session_;
    for (const auto& [id, arena] : arenas_) {
      if (arena.published && !gone(arena.device)) arenas.emplace_back(id, devices_[arena.device]);
    }
  }
  for (const auto& [id, device] : arenas) {
    // Waits for the commands of the lost link; there are no others.
    auto resident = device->engine().resident_chunks(id);
    const std::lock_guard lock(mutex_);
    ArenaRecord* const arena = find_arena(id);
    if (!resident || arena == nullptr || !arena->published) continue;  // is being closed
    arena->landed = static_cast<uint32_t>(resident->size());
    arena->next_position = arena->landed;
    arena->grants.clear();
    arena->revokes_answered = arena->revokes_given;
    // One without memory is simply opened again: the arbiter need not have heard of it.
    if (resident->empty()) continue;
    hello.held.push_back({id, remote_indices_[arena->device], descriptions_[arena->device].uuid,
                          arena->published->chunks, *std::move(resident)});
  }
  return hello;
}

void Core::match_devices(const protocol::Welcome& message) {
  for (uint32_t i = 0; i < descriptions_.size(); ++i) {
    const protocol::DeviceDescription& ours = descriptions_[i];
    const auto theirs = std::find_if(message.devices.begin(), message.devices.end(),
                                     [&](const auto& device) { return device.uuid == ours.uuid; });
    const bool found = theirs != message.devices.end();
    if (gone(i)) continue;  // also when it is back: its memory is another
    remote_indices_[i] =
        found ? static_cast<uint32_t>(theirs - message.devices.begin()) : kNoDevice;
    if (devices_[i] == nullptr || (found && theirs->bank_id == ours.bank_id)) continue;
    if (!found) {
      evict_all(i);
      continue;
    }
    for (uint32_t device = 0; device < devices_.size(); ++device) evict_all(device);
    end_for_good({ErrorCode::daemon_unavailable,
                  "the arbiter came back with other memory for " + ours.uuid +
                      ", so this session cannot go on: its weights and states are safe in host "
                      "memory; open a new session"});
    return;
  }
}

bool Core::gone(uint32_t device) const {
  return devices_[device] != nullptr && remote_indices_[device] == kNoDevice;
}

Error Core::gone_error(uint32_t device) const {
  return {ErrorCode::unknown_device,
          "the arbiter was started again without " + descriptions_[device].uuid +
              ": tasks on it cannot run any more, and their weights and states are safe in host "
              "memory. Close them; their models can be registered on another device"};
}

std::optional<uint32_t> Core::gone_device(const TaskRecord& task) const {
  for (const engine::ArenaId id : task.arenas) {
    const auto arena = arenas_.find(id);
    if (arena != arenas_.end() && gone(arena->second.device)) return arena->second.device;
  }
  return std::nullopt;
}

void Core::evict_all(uint32_t device) {
  for (const auto& [id, arena] : arenas_) {
    if (arena.device == device) devices_[device]->engine().evict(id, 0);
  }
}

void Core::reopen(const protocol::Hello& hello) {
  for (uint32_t i = 0; i < devices_.size(); ++i) {
    if (devices_[i] != nullptr && !gone(i)) report_device(i);
  }
  for (const auto& [id, arena] : arenas_) {
    if (arena.published && !gone(arena.device)) send_open_arena(arena);
  }
  for (const protocol::HeldArena& held : hello.held) {
    // Closed, or about to be, since it was described: its memory was given back to nobody.
    const ArenaRecord* const arena = find_arena(held.arena);
    if (arena == nullptr || !arena->published) send(protocol::CloseArena{held.arena});
  }
  for (const auto& [id, task] : tasks_) {
    if (gone_device(*task)) continue;
    send_open_task(*task);
    if (!task->paused) continue;
    ++task->requests;
    send(protocol::PauseTask{id});
  }
}

}  // namespace rtswap::client
