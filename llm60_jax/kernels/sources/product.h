// Matrix products, and the layouts of their operands.
//
// The left operand is [rows, depth], row-major. The right operand is cut into panels of PANEL columns:
// [columns / PANEL][depth / GROUP][PANEL] units, so that a product reads it in order.
#pragma once

#include "amx.h"
#include "threads.h"

namespace llm60 {

// R rows of one panel, held in registers; `out(row, column, sums)` uses the sums.
template <class E, int R, class Out>
__attribute__((noinline)) void tile(long depth, const E* left, long stride, const uint32_t* panel, long row,
                                    long column, const Out& out) {
  F32 sums[R][TILE_VECTORS] = {};
  for (long k = 0; k < depth; k += GROUP<E>, panel += PANEL) {
    U32 right[TILE_VECTORS];
#pragma GCC unroll 4
    for (int j = 0; j < TILE_VECTORS; j++) right[j] = load<U32>(panel + j * LANES);
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
      const U32 unit = splat(load<uint32_t>(left + i * stride + k));
#pragma GCC unroll 4
      for (int j = 0; j < TILE_VECTORS; j++) sums[i][j] = multiply_add(sums[i][j], unit, right[j], E{});
    }
  }
  out(row, column, sums);
}

template <class E, int R, class Out>
inline void tiles(long row, long rows, long depth, const E* left, long stride, const uint32_t* panel, long column,
                  const Out& out) {
  for (; row + R <= rows; row += R) tile<E, R>(depth, left + row * stride, stride, panel, row, column, out);
  if constexpr (R > 1) {
    if (row < rows) tiles<E, R / 2>(row, rows, depth, left, stride, panel, column, out);
  }
}

// left[rows, depth] times right[depth, columns], handed to `out` tile by tile.
//   stride: elements between rows of `left`; panel_units: units between panels of `right`.
//   columns is a multiple of PANEL, depth of GROUP.
template <class E, class Out>
void product(Worker& worker, long rows, long columns, long depth, const E* left, long stride, const uint32_t* right,
             long panel_units, const Out& out) {
  worker.counts.operations += 2 * rows * columns * depth;
  long row = 0;
#if defined(__AMX_BF16__)
  if constexpr (GROUP<E> == 2) row = amx_product(rows, columns, depth, left, stride, right, panel_units, out);
#endif
  for (long column = 0; column < columns; column += PANEL, right += panel_units)
    tiles<E, TILE_ROWS>(row, rows, depth, left, stride, right, column, out);
}

// Call f(row, column, sum) for each vector of a tile.
template <int R, class F>
inline void each(long row, long column, F32 (&sums)[R][TILE_VECTORS], const F& f) {
#pragma GCC unroll 8
  for (int i = 0; i < R; i++)
#pragma GCC unroll 4
    for (int j = 0; j < TILE_VECTORS; j++) f(row + i, column + j * LANES, sums[i][j]);
}

// An epilogue that writes the sums to x, row-major with `stride` elements a row; `change` of each first.
template <class S, class Change>
auto to(S* x, long stride, const Change& change) {
  return [=](long row, long column, auto& sums) {
    each(row, column, sums, [&](long i, long c, F32 sum) { write(x + i * stride + c, change(i, c, sum)); });
  };
}
template <class S>
auto to(S* x, long stride) {
  return to(x, stride, [](long, long, F32 sum) { return sum; });
}

// --- Operands ---------------------------------------------------------------------------------------

// Panels of x[depth, columns] as the right operand.
template <class E, class S>
void panels_of(const S* x, long stride, long depth, long columns, uint32_t* panels, long panel_units) {
  for (long k = 0; k < depth; k += GROUP<E>)
    for (long n = 0; n < columns; n += LANES)
      store(panels + n / PANEL * panel_units + k / GROUP<E> * PANEL + n % PANEL, units<E>(x + k * stride + n, stride));
}

// Panels of the transpose of x[columns, depth] as the right operand; depth is a multiple of BLOCK.
template <class E>
void panels_of_transpose(const E* x, long stride, long depth, long columns, uint32_t* panels, long panel_units) {
  for (long n = 0; n < columns; n += LANES)
    for (long k = 0; k < depth; k += LANES * GROUP<E>) {
      U32 rows[LANES];
#pragma GCC unroll 16
      for (int i = 0; i < LANES; i++) rows[i] = load<U32>(x + (n + i) * stride + k);
      transpose(rows);
      uint32_t* place = panels + n / PANEL * panel_units + k / GROUP<E> * PANEL + n % PANEL;
#pragma GCC unroll 16
      for (int i = 0; i < LANES; i++) store(place + i * PANEL, rows[i]);
    }
}

// The transpose of x[depth, rows] as the left operand, [rows, depth]; depth is a multiple of BLOCK.
template <class E, class S>
void transpose_to(const S* x, long stride, long depth, long rows, E* left, long left_stride) {
  for (long i = 0; i < rows; i += LANES)
    for (long k = 0; k < depth; k += LANES * GROUP<E>) {
      U32 block[LANES];
#pragma GCC unroll 16
      for (int g = 0; g < LANES; g++) block[g] = units<E>(x + (k + g * GROUP<E>) * stride + i, stride);
      transpose(block);
#pragma GCC unroll 16
      for (int g = 0; g < LANES; g++) store(left + (i + g) * left_stride + k, block[g]);
    }
}

// x[n, width] itself, or a copy with zero rows up to a multiple of BLOCK.
template <class E>
const E* padded(Worker& worker, const E* x, long& stride, long n, long width) {
  if (n % BLOCK == 0) return x;
  E* copy = worker.take<E>(round_up(n, BLOCK) * width);
  for (long i = 0; i < n; i++) std::memcpy(copy + i * width, x + i * stride, width * sizeof(E));
  std::memset(copy + n * width, 0, (round_up(n, BLOCK) - n) * width * sizeof(E));
  stride = width;
  return copy;
}

}  // namespace llm60
