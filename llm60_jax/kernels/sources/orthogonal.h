// Newton-Schulz steps, which bring all singular values of a matrix near 1 (training/optim.py, Muon).
//
// Shapes: I rows and O columns of the matrix; M the smaller, K the larger of both.
#pragma once

#include "product.h"

namespace llm60 {

// One matrix x[I, O] to y[I, O]; both have `stride` elements a row.
//
// The polynomial of Jordan (2024), five times: X <- (a + b A + c A A) X with A = X X^T. Before it the matrix is
// divided by its Frobenius norm, and multiplied by it after. A matrix of zeros stays one.
template <class E>
void orthogonalize(Worker& worker, long I, long O, const float* x, float* y, long stride) {
  const float a = 3.4445f, b = -4.7750f, c = 2.0315f;
  const bool is_tall = I > O;
  const long M = is_tall ? O : I, K = is_tall ? I : O;
  float* wide_IO = worker.take<float>(I * O);
  E *x_MK = worker.take<E>(M * K), *square_MM = worker.take<E>(M * M), *both_MM = worker.take<E>(M * M);
  uint32_t* panels = worker.take<uint32_t>(M * K / GROUP<E>);

  F32 squares = {};
  for (long i = 0; i < I; i++)
    for (long j = 0; j < O; j += LANES) squares += read(x + i * stride + j) * read(x + i * stride + j);
  const float norm = std::sqrt(sum(squares));
  const float inverse = 1.0f / (norm + 1e-8f);
  for (long i = 0; i < I; i++)
    for (long j = 0; j < O; j += LANES) write(wide_IO + i * O + j, read(x + i * stride + j) * inverse);
  if (is_tall) transpose_to<E>(wide_IO, O, I, O, x_MK, K);
  else
    for (long i = 0; i < I * O; i += LANES) write(x_MK + i, read(wide_IO + i));

  for (int round = 0; round < 5; round++) {
    panels_of_transpose<E>(x_MK, K, K, M, panels, K / GROUP<E> * PANEL);
    product(worker, M, M, K, x_MK, K, panels, K / GROUP<E> * PANEL, to(square_MM, M));
    panels_of<E>(square_MM, M, M, M, panels, M / GROUP<E> * PANEL);
    product(worker, M, M, M, square_MM, M, panels, M / GROUP<E> * PANEL, to(both_MM, M, [=](long i, long j, F32 sum) {
              return b * read(square_MM + i * M + j) + c * sum;
            }));
    panels_of<E>(x_MK, K, M, K, panels, M / GROUP<E> * PANEL);
    product(worker, M, K, M, both_MM, M, panels, M / GROUP<E> * PANEL, to(x_MK, K, [=](long i, long j, F32 sum) {
              return a * read(x_MK + i * K + j) + sum;
            }));
  }

  for (long i = 0; i < I * O; i += LANES) write(wide_IO + i, read(x_MK + i) * norm);
  if (is_tall) transpose_to<float>(wide_IO, K, M, K, y, stride);
  else
    for (long i = 0; i < I; i++) std::memcpy(y + i * stride, wide_IO + i * O, O * sizeof(float));
}

}  // namespace llm60
