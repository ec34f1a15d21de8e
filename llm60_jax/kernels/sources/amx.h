// Products on the tiles of AMX: blocks of 32 rows x 32 columns in 2 x 2 tiles, 32 Bf16 of the contraction at a time.
//
// The tests run it with emulated tiles, too (tests/emulated_amx.h), for machines that have none.
#pragma once

#include "vector.h"

#if defined(__AMX_BF16__)

#include <sys/syscall.h>
#include <unistd.h>

namespace llm60 {

// The right to use tiles, for one product: XLA's own kernels, on the same threads, configure and release them too.
struct AmxTiles {
  AmxTiles() : are_ready(are_permitted()) {
    // Palette 1, then eight tiles: 64 bytes a row, 16 rows.
    alignas(64) static constexpr uint16_t configuration[32] = {
        1, 0, 0, 0, 0, 0, 0, 0, 64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0x1010, 0x1010, 0x1010, 0x1010};
    if (are_ready) _tile_loadconfig(configuration);
  }
  ~AmxTiles() {
    if (are_ready) _tile_release();
  }
  // Linux lets a process use tiles once it has asked: ARCH_REQ_XCOMP_PERM, for XFEATURE_XTILEDATA.
  static bool are_permitted() {
    static const bool permitted = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
    return permitted;
  }
  const bool are_ready;
};

// 16 or 32 rows of one panel; `out(row, column, sums)` uses the sums.
template <int ROWS, class Out>
__attribute__((noinline)) void amx_tile(long depth, const Bf16* left, long stride, const uint32_t* panel, long row,
                                        long column, const Out& out) {
  constexpr long PANEL_BYTES = 4 * PANEL;
  asm volatile("" ::: "memory");  // gcc does not know that tiles are loaded from memory
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (long k = 0; k < depth; k += 32, panel += 16 * PANEL) {
    _tile_loadd(6, panel, PANEL_BYTES);
    _tile_loadd(7, panel + 16, PANEL_BYTES);
    _tile_loadd(4, left + k, 2 * stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (ROWS == 32) {
      _tile_loadd(5, left + 16 * stride + k, 2 * stride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  alignas(64) float block[ROWS * PANEL];
  _tile_stored(0, block, PANEL_BYTES);
  _tile_stored(1, block + 16, PANEL_BYTES);
  if constexpr (ROWS == 32) {
    _tile_stored(2, block + 16 * PANEL, PANEL_BYTES);
    _tile_stored(3, block + 16 * PANEL + 16, PANEL_BYTES);
  }
  for (int first = 0; first < ROWS; first += TILE_ROWS) {
    F32 sums[TILE_ROWS][TILE_VECTORS];
    std::memcpy(sums, block + first * PANEL, sizeof sums);
    out(row + first, column, sums);
  }
}

// `product` for as many rows as make whole tiles; returns their number. It depends on the shapes alone, and so does
// the order of operations of each sum.
template <class Out>
long amx_product(long rows, long columns, long depth, const Bf16* left, long stride, const uint32_t* right,
                 long panel_units, const Out& out) {
  const AmxTiles tiles;
  if (!tiles.are_ready || depth % 32) return 0;
  for (long column = 0; column < columns; column += PANEL, right += panel_units) {
    long row = 0;
    for (; row + 32 <= rows; row += 32) amx_tile<32>(depth, left + row * stride, stride, right, row, column, out);
    if (row + 16 <= rows) amx_tile<16>(depth, left + row * stride, stride, right, row, column, out);
  }
  return rows / 16 * 16;
}

}  // namespace llm60

#endif
