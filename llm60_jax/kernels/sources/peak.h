// The most that this processor's products can do: multiply_add on registers alone.
#pragma once

#include <chrono>
#include <thread>
#include <vector>

#include "amx.h"

namespace llm60 {

// Operations of one thread in `rounds` rounds; writes a value that depends on all of them to `result`.
template <class E>
double exercise(long rounds, float* result) {
#if defined(__AMX_BF16__)
  if (const AmxTiles tiles; GROUP<E> == 2 && tiles.are_ready) {
    for (long i = 0; i < rounds; i++) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    return 2.0 * rounds * 4 * 16 * 16 * 32;
  }
#endif
  constexpr int CHAINS = 2 * TILE_ROWS;
  F32 sums[CHAINS] = {};
  U32 a = (U32)splat(1e-20f), b = a;
  asm volatile("" : "+m"(a), "+m"(b));
  const U32 left = a, right = b;
  for (long i = 0; i < rounds; i++)
#pragma GCC unroll 16
    for (int j = 0; j < CHAINS; j++) sums[j] = multiply_add(sums[j], left, right, E{});
  F32 all = {};
  for (const F32 sum : sums) all += sum;
  *result = sum(all);
  return 2.0 * rounds * CHAINS * LANES * GROUP<E>;
}

// Operations a second of `threads` threads together, the best of some tenths of a second.
inline double register_peak(long threads) {
#if LLM60_BF16
  using E = Bf16;
#else
  using E = float;
#endif
  double best = 0;
  for (int repeat = 0; repeat < 5; repeat++) {
    std::vector<std::thread> others;
    std::vector<float> results(threads * 16);
    std::vector<double> done(threads * 8);
    const auto start = std::chrono::steady_clock::now();
    for (long i = 0; i < threads; i++)
      others.emplace_back([&, i] { done[i * 8] = exercise<E>(5'000'000, &results[i * 16]); });
    for (std::thread& other : others) other.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    double total = 0;
    for (long i = 0; i < threads; i++) total += done[i * 8];
    best = total / seconds.count() > best ? total / seconds.count() : best;
  }
  return best;
}

}  // namespace llm60
