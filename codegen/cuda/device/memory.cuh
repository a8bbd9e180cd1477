// Views of global and shared memory, asynchronous copies, matrices of 8 rows of 16 bytes.
#pragma once

#include "words.cuh"

// Offset 0 of every Shared<T>; TMA with 128-byte swizzle wants 1024.
extern __shared__ __align__(1024) unsigned char qcc_shared_memory[];

namespace qcc {

namespace device {

// The address in the window of shared memory, as PTX takes it.
QCC_DEVICE u32 shared_address(u32 offset) {
  return static_cast<u32>(__cvta_generic_to_shared(qcc_shared_memory)) + offset;
}

// How the L2 is to treat a line; a value that the compiler makes once.
template <Cache cache>
QCC_DEVICE u64 policy() {
  u64 policy;
  if constexpr (cache == Cache::evict_last)
    asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  else
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Constant data may be read before and after anything, so these are not volatile.
template <Cache cache>
QCC_DEVICE u32 load_constant(const u32* from) {
  u32 value;
  if constexpr (cache == Cache::normal)
    asm("ld.global.nc.u32 %0, [%1];" : "=r"(value) : "l"(from));
  else if constexpr (cache == Cache::no_allocate)
    asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(value) : "l"(from));
  else
    asm("ld.global.nc.L1::no_allocate.L2::cache_hint.u32 %0, [%1], %2;"
        : "=r"(value)
        : "l"(from), "l"(policy<cache>()));
  return value;
}
template <Cache cache>
QCC_DEVICE Words<2> load_constant(const Words<2>* from) {
  Words<2> value;
  if constexpr (cache == Cache::normal)
    asm("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(value[0]), "=r"(value[1]) : "l"(from));
  else if constexpr (cache == Cache::no_allocate)
    asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
        : "=r"(value[0]), "=r"(value[1])
        : "l"(from));
  else
    asm("ld.global.nc.L1::no_allocate.L2::cache_hint.v2.u32 {%0, %1}, [%2], %3;"
        : "=r"(value[0]), "=r"(value[1])
        : "l"(from), "l"(policy<cache>()));
  return value;
}
template <Cache cache>
QCC_DEVICE Words<4> load_constant(const Words<4>* from) {
  Words<4> value;
  if constexpr (cache == Cache::normal)
    asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
        : "l"(from));
  else if constexpr (cache == Cache::no_allocate)
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
        : "l"(from));
  else
    asm("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
        : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
        : "l"(from), "l"(policy<cache>()));
  return value;
}
template <Cache cache, typename T>
QCC_DEVICE T load_constant(const T* from) {
  return __ldg(from);  // 1 and 2 bytes: hints are for wide accesses
}

}  // namespace device

// `count` elements at `pointer`. A const element type promises that no kernel of the launch
// writes the buffer.
template <typename T>
class Global {
 public:
  QCC_DEVICE Global(T* pointer, s64) : pointer(pointer) {}
  QCC_DEVICE Global(const Global<Value<T>>& other) : pointer(other.address()) {}

  // The view from element `index` on; nothing is checked before an access.
  QCC_DEVICE Global at(s64 index) const { return {pointer + index, 0}; }
  QCC_DEVICE T* address() const { return pointer; }

  QCC_DEVICE Value<T> load(s64 index) const {
    if constexpr (is_const<T>) return __ldg(pointer + index);
    return pointer[index];
  }
  // The hint is obeyed where the elements are const.
  template <int bytes, Cache cache = Cache::normal>
  QCC_DEVICE Accessed<bytes> load(s64 index) const {
    const auto* from = reinterpret_cast<const Accessed<bytes>*>(pointer + index);
    if constexpr (is_const<T>) return device::load_constant<cache>(from);
    return *from;
  }
  QCC_DEVICE void store(s64 index, Value<T> value) const { pointer[index] = value; }
  template <int bytes>
  QCC_DEVICE void store(s64 index, Accessed<bytes> value) const {
    *reinterpret_cast<Accessed<bytes>*>(pointer + index) = value;
  }

 private:
  T* pointer;
};

// `count` elements from byte `offset` of the block's dynamic shared memory.
template <typename T>
class Shared {
 public:
  QCC_DEVICE Shared(u32 offset, s64) : offset(offset) {}

  QCC_DEVICE Shared at(s64 index) const { return {offset + u32(index) * u32(sizeof(T)), 0}; }
  QCC_DEVICE u32 address() const { return device::shared_address(offset); }

  QCC_DEVICE T load(s64 index) const { return *generic<T>(index); }
  template <int bytes>
  QCC_DEVICE Accessed<bytes> load(s64 index) const {
    return *generic<Accessed<bytes>>(index);
  }
  QCC_DEVICE void store(s64 index, T value) const { *generic<T>(index) = value; }
  template <int bytes>
  QCC_DEVICE void store(s64 index, Accessed<bytes> value) const {
    *generic<Accessed<bytes>>(index) = value;
  }

 private:
  // Known by the compiler to be shared memory, since it derives from the array.
  template <typename U>
  QCC_DEVICE U* generic(s64 index) const {
    return reinterpret_cast<U*>(qcc_shared_memory + offset + u32(index) * u32(sizeof(T)));
  }

  u32 offset;
};

// ---- asynchronous copies

// Copy `valid` of `bytes` bytes and zero the rest; other threads see them after wait_copies and a
// barrier.
template <int bytes, Cache cache = Cache::normal, typename T, typename S>
QCC_DEVICE void copy_async(Shared<T> to, Global<S> from, u32 valid = bytes) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async moves 4, 8 or 16 bytes");
  const u32 shared = to.address();
  const auto* global = from.address();
  constexpr bool hinted = cache == Cache::evict_first || cache == Cache::evict_last;
  if constexpr (bytes == 16 && hinted)
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(shared),
                 "l"(global), "r"(valid), "l"(device::policy<cache>())
                 : "memory");
  else if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
                 "r"(valid)
                 : "memory");
  else if constexpr (hinted)
    asm volatile("cp.async.ca.shared.global.L2::cache_hint [%0], [%1], %2, %3, %4;" ::"r"(shared),
                 "l"(global), "n"(bytes), "r"(valid), "l"(device::policy<cache>())
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(global),
                 "n"(bytes), "r"(valid)
                 : "memory");
}

QCC_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most `pending` of the groups that this thread committed are under way.
template <int pending>
QCC_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// ---- matrices of 8 rows of 16 bytes

// Lane 8 m + r names row r of matrix m; d[m] is word `lane & 3` of row `lane >> 2`, or, transposed,
// the 16-bit elements 2 (lane & 3) and the next of column `lane >> 2`.
template <int count, bool transposed = false, typename T>
QCC_DEVICE void load_matrix(u32 (&d)[count], Shared<T> row) {
  static_assert(count == 1 || count == 2 || count == 4, "ldmatrix loads 1, 2 or 4 matrices");
  const u32 from = row.address();
  if constexpr (count == 4 && transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(from)
                 : "memory");
  else if constexpr (count == 4)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(from)
                 : "memory");
  else if constexpr (count == 2 && transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(d[0]), "=r"(d[1])
                 : "r"(from)
                 : "memory");
  else if constexpr (count == 2)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(d[0]), "=r"(d[1])
                 : "r"(from)
                 : "memory");
  else if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(d[0])
                 : "r"(from)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(d[0])
                 : "r"(from)
                 : "memory");
}

// The inverse of load_matrix, from sm_90 on.
template <int count, bool transposed = false, typename T>
QCC_DEVICE void store_matrix(Shared<T> row, const u32 (&s)[count]) {
  static_assert(count == 1 || count == 2 || count == 4, "stmatrix stores 1, 2 or 4 matrices");
  const u32 to = row.address();
  if constexpr (count == 4 && transposed)
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
                 "r"(s[0]), "r"(s[1]), "r"(s[2]), "r"(s[3])
                 : "memory");
  else if constexpr (count == 4)
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
                 "r"(s[0]), "r"(s[1]), "r"(s[2]), "r"(s[3])
                 : "memory");
  else if constexpr (count == 2 && transposed)
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(to),
                 "r"(s[0]), "r"(s[1])
                 : "memory");
  else if constexpr (count == 2)
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(to), "r"(s[0]),
                 "r"(s[1])
                 : "memory");
  else if constexpr (transposed)
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(to), "r"(s[0])
                 : "memory");
  else
    asm volatile("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};" ::"r"(to), "r"(s[0])
                 : "memory");
}

}  // namespace qcc
