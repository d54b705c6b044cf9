// The tensors of one registration, moved as a set: grouped by the storage they share, packed into
// segments of an arena, closed between jobs, and given ordinary memory again at the end.
//
//   plan (constructor) -> place + fill per kind (-> image_of) -> commit -> open/close ... ->
//   release
//
// Nothing of the model changes before commit, so that a refused registration leaves it as it was.
// tensor_moves.cc has commit and release, tensor_set.cc the rest.
//
// LibTorch only. Threads: all calls with the GIL held; bulk copies release it.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "csrc/python/prefix_gate.h"
#include "csrc/python/tensor_checks.h"
#include "csrc/python/tensor_places.h"
#include "csrc/python/watches.h"

namespace rtswap::python {

class TensorSet {
 public:
  // `device`: where jobs compute; `owner` names the task in messages. `meta_allowed`: tensors of
  // the meta device are taken as well; the caller writes their bytes to image_of(). Errors (as
  // Python exceptions): those of tensor_checks.h.
  TensorSet(std::vector<NamedTensor> tensors, c10::Device device, std::string owner,
            bool meta_allowed);
  TensorSet(const TensorSet&) = delete;
  TensorSet& operator=(const TensorSet&) = delete;

  // Bytes that the storages of one kind need, 512-byte packed; 0: none.
  uint64_t bytes(engine::Kind kind) const;
  size_t storage_count() const { return extents_.size(); }
  // Tensors that torch knows to share memory with something outside this set and that the move
  // to another device leaves behind.
  std::vector<std::string> left_behind() const;

  // Gives the storages of this kind their addresses and copies their bytes, where they have some,
  // into the host image. REQUIRES: segment.bytes >= bytes(kind).
  void fill(engine::Kind kind, const engine::Segment& segment);
  // Where the bytes of a tensor of this set lie in the host image; empty for scratch and for
  // tensors without elements. REQUIRES: contiguous, filled, not committed.
  std::span<std::byte> image_of(const at::Tensor& tensor) const;

  // Moves the tensors. `arena` (may be null) is kept alive by every storage that points into it.
  // REQUIRES: fill for each kind with bytes. Storages are open afterwards.
  void commit(std::shared_ptr<void> arena);

  // Where modules hold what this set moved. Replaces what was watched before.
  void watch(Watches watches) { watches_ = std::move(watches); }
  const Watches& watches() const { return watches_; }
  // What was moved lies in the arena, and is held where it was. Otherwise the next one, or the
  // watches, know more.
  bool intact() { return watches_.intact() && places_.intact(); }
  // Names of tensors that no longer lie in the arena, or that their module replaced.
  std::vector<std::string> escaped() const;
  // Whether this tensor's memory is part of the set (a tensor without elements has none to move).
  // REQUIRES: commit.
  bool holds(const at::Tensor& tensor) const;

  void open() { places_.open(); }
  void open_noting_versions() { places_.open_noting_versions(); }
  void close(const std::string& message);
  // For one that was closed with a message before: the same again, and whether read_only storages
  // were counted as written since the versions were noted.
  bool close_again() { return places_.close(); }
  // Of a job that begins on a prefix: opens the storages that lie in the arena's first chunks and
  // closes the others; then, as more chunks land, opens those that have come. Does not close what
  // an earlier call has opened.
  void close_beyond(uint32_t landed_chunks, const std::string& message);
  void open_up_to(uint32_t landed_chunks);
  // Names of tensors that do not lie wholly in the arena's first chunks. REQUIRES: commit.
  std::vector<std::string> beyond(uint32_t landed_chunks) const;
  // Appends what each storage needs. REQUIRES: commit.
  void add_needs(std::vector<MemoryNeed>& needs) const;

  // Remembers the version counters of read_only storages. `changed`: names of tensors whose storage
  // was counted as written since. `save_changed`: writes those to the host image, which eviction
  // takes for the truth, and tells how many bytes; with `uncounted` also tensors that have no
  // counters (inference mode). REQUIRES: a grant, storages open.
  void note_versions() { places_.note_versions(); }
  std::vector<std::string> changed() const;
  uint64_t save_changed(bool uncounted);

  // The bytes of mutable storages as they are now. REQUIRES: a grant, storages open.
  std::vector<at::Tensor> copy_mutable() const;
  // Puts such a copy back. REQUIRES: a grant, storages open.
  void assign_mutable(const std::vector<at::Tensor>& bytes);

  // Gives every tensor ordinary memory where it came from (CPU, or the GPU) and opens it,
  // with the bytes of the host image. Escaped tensors are left alone.
  void release();

 private:
  // The used part of one storage, moved as a whole.
  struct Extent {
    c10::Storage source;       // before commit: where the bytes are
    c10::Storage home;         // after commit: lies in the arena
    uint64_t begin_bytes = 0;  // of the used part within `source`
    uint64_t bytes = 0;
    uint64_t offset_bytes = 0;  // within the segment
    engine::Kind kind = engine::Kind::read_only;
    std::vector<size_t> members;  // indices into tensors_
    std::byte* host = nullptr;
    void* address = nullptr;
    uint32_t chunks = 0;  // of the arena's first ones: as many as must be there for all of it
    c10::Device origin;
    bool partial = false;  // other parts of `source` stay where they are
    bool empty = false;    // `source` is of the meta device: no bytes
    bool resizable = false;

    // What was on the meta device becomes a CPU tensor at the end.
    explicit Extent(c10::Storage storage)
        : source(std::move(storage)),
          origin(source.device().is_meta() ? c10::Device(c10::kCPU) : source.device()),
          empty(source.device().is_meta()) {}
  };

  void add(size_t index);
  bool stays(const Extent& extent) const;  // keeps its StorageImpl, with another pointer
  void choose_parts();
  void pack();
  void move_in_place(Extent& extent, std::shared_ptr<void> arena);
  void move_to_new_storage(Extent& extent, std::shared_ptr<void> arena);
  void release_one(Extent& extent);
  void point_members_at(Extent& extent, const c10::Storage& storage, int64_t shift_bytes);

  std::vector<NamedTensor> tensors_;
  std::vector<Extent> extents_;
  TensorPlaces places_;  // of extents_, in their order; from commit on
  std::unordered_map<const c10::StorageImpl*, size_t> by_storage_;
  std::vector<size_t> by_chunks_;  // extents in the order in which their memory lands
  size_t opened_ = 0;              // so many of by_chunks_; meaningful during a job on a prefix
  Watches watches_;
  c10::Device device_;
  std::string owner_;
  bool meta_allowed_;
  uint64_t bytes_[3] = {0, 0, 0};  // by Kind
  bool committed_ = false;
};

}  // namespace rtswap::python
