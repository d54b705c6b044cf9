#include "csrc/driver/fault_injecting.h"

#include <utility>

namespace rtswap::driver {
namespace {

size_t index(Operation operation) { return static_cast<size_t>(operation); }

bool takes_back(Operation operation) {
  switch (operation) {
    case Operation::release_chunk:
    case Operation::unreserve:
    case Operation::unmap:
    case Operation::destroy_stream:
    case Operation::destroy_event:
    case Operation::unregister_host:
      return true;
    default:
      return false;
  }
}

}  // namespace

FaultInjectingDriver::FaultInjectingDriver(std::unique_ptr<Driver> inner)
    : inner_(std::move(inner)) {}

void FaultInjectingDriver::fail_call(Operation operation, uint64_t nth, Error error) {
  const std::lock_guard lock(mutex_);
  planned_[index(operation)][calls_[index(operation)] + nth] = std::move(error);
}

void FaultInjectingDriver::fail_randomly(double probability, uint64_t seed, Error error) {
  const std::lock_guard lock(mutex_);
  random_ = {
      .probability = probability, .generator = std::mt19937_64(seed), .error = std::move(error)};
}

uint64_t FaultInjectingDriver::calls(Operation operation) const {
  const std::lock_guard lock(mutex_);
  return calls_[index(operation)];
}

uint64_t FaultInjectingDriver::injected() const {
  const std::lock_guard lock(mutex_);
  return injected_;
}

Status FaultInjectingDriver::admit(Operation operation) {
  const std::lock_guard lock(mutex_);
  const uint64_t number = ++calls_[index(operation)];
  std::optional<Error> error = lost_;
  auto& planned = planned_[index(operation)];
  if (auto found = planned.find(number); found != planned.end()) {
    if (!error) error = std::move(found->second);
    planned.erase(found);
  }
  if (!error && random_.probability > 0 && !takes_back(operation)) {
    // Not std::bernoulli_distribution, whose results differ between standard libraries.
    const double draw = static_cast<double>(random_.generator() >> 11) * 0x1p-53;
    if (draw < random_.probability) error = random_.error;
  }
  if (!error) return {};
  if (error->code == ErrorCode::device_lost) lost_ = error;
  ++injected_;
  return fail(*std::move(error));
}

Result<MemoryInfo> FaultInjectingDriver::memory_info() {
  RTSWAP_TRY(admit(Operation::memory_info));
  return inner_->memory_info();
}

Result<ChunkHandle> FaultInjectingDriver::create_chunk(uint64_t bytes) {
  RTSWAP_TRY(admit(Operation::create_chunk));
  return inner_->create_chunk(bytes);
}

Result<UniqueFd> FaultInjectingDriver::export_chunk(ChunkHandle chunk) {
  RTSWAP_TRY(admit(Operation::export_chunk));
  return inner_->export_chunk(chunk);
}

Result<ChunkHandle> FaultInjectingDriver::import_chunk(int fd, uint64_t bytes) {
  RTSWAP_TRY(admit(Operation::import_chunk));
  return inner_->import_chunk(fd, bytes);
}

Status FaultInjectingDriver::release_chunk(ChunkHandle chunk) {
  RTSWAP_TRY(admit(Operation::release_chunk));
  return inner_->release_chunk(chunk);
}

Result<Address> FaultInjectingDriver::reserve(uint64_t bytes, std::string_view label) {
  RTSWAP_TRY(admit(Operation::reserve));
  return inner_->reserve(bytes, label);
}

Status FaultInjectingDriver::unreserve(Address address, uint64_t bytes) {
  RTSWAP_TRY(admit(Operation::unreserve));
  return inner_->unreserve(address, bytes);
}

Status FaultInjectingDriver::map(Address address, std::span<const ChunkHandle> chunks,
                                 uint64_t chunk_bytes, Access access) {
  RTSWAP_TRY(admit(Operation::map));
  return inner_->map(address, chunks, chunk_bytes, access);
}

Status FaultInjectingDriver::unmap(Address address, uint64_t bytes) {
  RTSWAP_TRY(admit(Operation::unmap));
  return inner_->unmap(address, bytes);
}

Result<StreamHandle> FaultInjectingDriver::create_stream() {
  RTSWAP_TRY(admit(Operation::create_stream));
  return inner_->create_stream();
}

Status FaultInjectingDriver::destroy_stream(StreamHandle stream) {
  RTSWAP_TRY(admit(Operation::destroy_stream));
  return inner_->destroy_stream(stream);
}

Result<EventHandle> FaultInjectingDriver::create_event() {
  RTSWAP_TRY(admit(Operation::create_event));
  return inner_->create_event();
}

Status FaultInjectingDriver::destroy_event(EventHandle event) {
  RTSWAP_TRY(admit(Operation::destroy_event));
  return inner_->destroy_event(event);
}

Status FaultInjectingDriver::record_event(EventHandle event, StreamHandle stream) {
  RTSWAP_TRY(admit(Operation::record_event));
  return inner_->record_event(event, stream);
}

Status FaultInjectingDriver::wait_event(StreamHandle stream, EventHandle event) {
  RTSWAP_TRY(admit(Operation::wait_event));
  return inner_->wait_event(stream, event);
}

Result<bool> FaultInjectingDriver::query_event(EventHandle event) {
  RTSWAP_TRY(admit(Operation::query_event));
  return inner_->query_event(event);
}

Status FaultInjectingDriver::synchronize_event(EventHandle event) {
  RTSWAP_TRY(admit(Operation::synchronize_event));
  return inner_->synchronize_event(event);
}

Status FaultInjectingDriver::copy_to_device(Address destination, const void* host, uint64_t bytes,
                                            StreamHandle stream) {
  RTSWAP_TRY(admit(Operation::copy_to_device));
  return inner_->copy_to_device(destination, host, bytes, stream);
}

Status FaultInjectingDriver::copy_to_host(void* host, Address source, uint64_t bytes,
                                          StreamHandle stream) {
  RTSWAP_TRY(admit(Operation::copy_to_host));
  return inner_->copy_to_host(host, source, bytes, stream);
}

Status FaultInjectingDriver::register_host(void* host, uint64_t bytes) {
  RTSWAP_TRY(admit(Operation::register_host));
  return inner_->register_host(host, bytes);
}

Status FaultInjectingDriver::unregister_host(void* host) {
  RTSWAP_TRY(admit(Operation::unregister_host));
  return inner_->unregister_host(host);
}

Status FaultInjectingDriver::attach_thread() {
  RTSWAP_TRY(admit(Operation::attach_thread));
  return inner_->attach_thread();
}

Status FaultInjectingDriver::on_program_thread(const std::function<Status()>& body) {
  return inner_->on_program_thread(body);
}

}  // namespace rtswap::driver
