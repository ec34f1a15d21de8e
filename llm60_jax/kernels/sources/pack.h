// Weights as right operands of products, packed once a step.
#pragma once

#include "elements.h"

namespace llm60 {

// Panels of every matrix of w[n, rows, columns].
//   transposed: panels of the transposes instead.
//   group: if not 0, a panel holds lower and upper columns of groups of this width (elements.h).
template <class E>
void pack(Team& team, long n, long rows, long columns, bool transposed, long group, const float* w,
          uint32_t* panels) {
  const long count = (transposed ? rows : columns) / PANEL;
  const long depth = transposed ? columns : rows, panel_units = depth / GROUP<E> * PANEL;
  team.run(n * count, [&](long task, Worker& worker) {
    const float* matrix = w + task / count * rows * columns;
    uint32_t* panel = panels + task * panel_units;
    const long column = task % count * PANEL;
    if (transposed) {
      E* x = worker.take<E>(PANEL * depth);
      for (long i = 0; i < PANEL * depth; i += LANES) write(x + i, read(matrix + column * depth + i));
      panels_of_transpose(x, depth, depth, PANEL, panel, panel_units);
      return;
    }
    for (int j = 0; j < TILE_VECTORS; j++) {
      long from = column + j * LANES;
      if (group) from = lower_column(column, group) + j % HALF * LANES + j / HALF * (group / 2);
      for (long k = 0; k < depth; k += GROUP<E>)
        store(panel + k / GROUP<E> * PANEL + j * LANES, units<E>(matrix + k * columns + from, columns));
    }
  });
}

}  // namespace llm60
