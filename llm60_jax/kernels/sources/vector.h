// A thin layer over the processor's vectors. Everything above it is written once; the compiler's flags
// choose the instruction set, one library for each (processor.py).
//
// Operands of products are `Bf16` or float. A unit is 32 bits: two neighbouring Bf16 of a contraction,
// or one float. Products accumulate in float32.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define LLM60_BF16 1
#else
#define LLM60_BF16 0
#endif

namespace llm60 {

#if defined(__AVX512F__)
constexpr int LANES = 16;     // floats of a vector
constexpr int TILE_ROWS = 8;  // a product's accumulators: rows x vectors
constexpr int TILE_VECTORS = 2;
#elif defined(__AVX2__)
constexpr int LANES = 8;
constexpr int TILE_ROWS = 6;
constexpr int TILE_VECTORS = 2;
#elif defined(__aarch64__)
constexpr int LANES = 4;
constexpr int TILE_ROWS = 6;
constexpr int TILE_VECTORS = 4;
#else
#error "no vectors: compile with the flags of processor.py"
#endif
constexpr int PANEL = TILE_VECTORS * LANES;  // columns of a panel
constexpr int BLOCK = 32;                    // every width and every padded length is a multiple

using F32 = float __attribute__((vector_size(4 * LANES)));
using I32 = int32_t __attribute__((vector_size(4 * LANES)));
using U32 = uint32_t __attribute__((vector_size(4 * LANES)));
using U16 = uint16_t __attribute__((vector_size(2 * LANES)));

struct Bf16 {
  uint16_t bits;
};

template <class E>
constexpr int GROUP = 4 / sizeof(E);  // elements of a unit

inline long round_up(long n, long multiple) { return (n + multiple - 1) / multiple * multiple; }

template <class V>
inline V load(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class V>
inline void store(void* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

// The same value in every lane; x - 0 is x, -0 too.
inline F32 splat(float x) { return x - F32{}; }
inline U32 splat(uint32_t x) { return x - U32{}; }

// --- What differs between instruction sets ----------------------------------------------------------

#if LLM60_BF16
// Round to the nearest Bf16, ties to even.
inline U16 narrow(F32 x) {
#if defined(__AVX512BF16__)
  return (U16)_mm512_cvtneps_pbh((__m512)x);
#else
  return (U16)vcvt_bf16_f32((float32x4_t)x);
#endif
}

// c + a0 b0 + a1 b1 for the Bf16 pairs of each unit.
inline F32 multiply_add(F32 c, U32 a, U32 b, Bf16) {
#if defined(__AVX512BF16__)
  return (F32)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
#else
  return (F32)vbfdotq_f32((float32x4_t)c, (bfloat16x8_t)a, (bfloat16x8_t)b);
#endif
}
#endif

inline F32 multiply_add(F32 c, U32 a, U32 b, float) { return c + (F32)a * (F32)b; }  // -ffp-contract=fast

// --- Elements ---------------------------------------------------------------------------------------

inline F32 read(const float* p) { return load<F32>(p); }
inline void write(float* p, F32 x) { store(p, x); }
inline U32 element_bits(const float* p, float) { return load<U32>(p); }
inline float to_float(float x) { return x; }

#if LLM60_BF16
inline U32 element_bits(const Bf16* p, Bf16) { return __builtin_convertvector(load<U16>(p), U32); }
inline U32 element_bits(const float* p, Bf16) { return __builtin_convertvector(narrow(load<F32>(p)), U32); }
inline F32 read(const Bf16* p) { return (F32)(element_bits(p, Bf16{}) << 16); }
inline void write(Bf16* p, F32 x) { store(p, narrow(x)); }
inline float to_float(Bf16 x) {
  uint32_t bits = (uint32_t)x.bits << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
#endif

// The value as a product sees it.
template <class E>
inline F32 rounded(F32 x) {
  if constexpr (GROUP<E> == 1) return x;
#if LLM60_BF16
  else return (F32)(__builtin_convertvector(narrow(x), U32) << 16);
#endif
}

// One unit of each of LANES neighbouring columns: the element at p and, if a unit holds two, the one below it.
template <class E, class S>
inline U32 units(const S* p, long stride) {
  U32 bits = element_bits(p, E{});
  if constexpr (GROUP<E> == 2) bits |= element_bits(p + stride, E{}) << 16;
  return bits;
}

// --- Arithmetic -------------------------------------------------------------------------------------

inline F32 largest(F32 a, F32 b) { return a > b ? a : b; }

template <class V, class Combine>
inline auto reduced(V v, Combine combine) {
  for (int width = LANES / 2; width; width /= 2)
    for (int i = 0; i < width; i++) v[i] = combine(v[i], v[i + width]);
  return v[0];
}
inline float sum(F32 v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  return reduced(v, [](float a, float b) { return a + b; });
#endif
}
inline float largest(F32 v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  return reduced(v, [](float a, float b) { return a > b ? a : b; });
#endif
}
// The number of lanes that a mask sets: they hold -1.
inline long count(I32 mask) {
  return -(long)reduced(mask, [](int32_t a, int32_t b) { return a + b; });
}

// e^x to about 2 units in the last place; x is held between -87 and 88.
inline F32 exponential(F32 x) {
  x = x < -87.0f ? splat(-87.0f) : x;
  x = x > 88.0f ? splat(88.0f) : x;
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  F32 t = x * 1.44269504f;
  F32 n = (t + shift) - shift;
  F32 f = x * 1.44269504f - n + x * 1.92596299e-8f;  // the rest of log2(e)
  F32 p = splat(1.535336188319500e-4f);
  p = p * f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f + 1.0f;
  return (F32)((I32)p + (__builtin_convertvector(n, I32) << 23));
}

#if defined(__clang__)
#define LLM60_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LLM60_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, I32{__VA_ARGS__})
#endif

// Exchange lanes of two rows: those of `a` whose number has the bit `width` with those of `b` that lack it.
template <int width, int... lane>
inline void exchange(U32& a, U32& b, std::integer_sequence<int, lane...>) {
  const U32 low = LLM60_SHUFFLE(a, b, ((lane & width) ? LANES + lane - width : lane)...);
  const U32 high = LLM60_SHUFFLE(a, b, ((lane & width) ? LANES + lane : lane + width)...);
  a = low, b = high;
}

template <int width>
inline void exchange_all(U32 (&rows)[LANES]) {
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++)
    if (!(i & width)) exchange<width>(rows[i], rows[i + width], std::make_integer_sequence<int, LANES>{});
}

// Transpose LANES rows of LANES units in place.
inline void transpose(U32 (&rows)[LANES]) {
  exchange_all<1>(rows);
  exchange_all<2>(rows);
  if constexpr (LANES > 4) exchange_all<4>(rows);
  if constexpr (LANES > 8) exchange_all<8>(rows);
}

}  // namespace llm60
