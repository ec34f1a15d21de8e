// The tiles of AMX in plain C++. Included before the kernels, it lets them run amx.h on any processor of AVX-512.
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emulated {

struct Configuration {
  uint8_t palette, start, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
thread_local Configuration configuration{};  // palette 0: tiles may not be used
thread_local uint32_t tiles[8][16][16];

inline int columns(int tile) { return configuration.row_bytes[tile] / 4; }
inline void load_configuration(const void* from) {
  std::memcpy(&configuration, from, sizeof configuration);
  std::memset(tiles, 0, sizeof tiles);
}
inline void release() { configuration = {}; }
inline void require_tiles() {
  if (configuration.palette != 1) std::abort();
}
inline void load(int tile, const void* from, long stride) {
  require_tiles();
  for (int i = 0; i < configuration.rows[tile]; i++)
    std::memcpy(tiles[tile][i], (const char*)from + i * stride, configuration.row_bytes[tile]);
}
inline void store(int tile, void* to, long stride) {
  require_tiles();
  for (int i = 0; i < configuration.rows[tile]; i++)
    std::memcpy((char*)to + i * stride, tiles[tile][i], configuration.row_bytes[tile]);
}
inline void zero(int tile) {
  require_tiles();
  std::memset(tiles[tile], 0, sizeof tiles[tile]);
}
inline float value(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
// c[m][n] += a[m][2 k] b[k][2 n] + a[m][2 k + 1] b[k][2 n + 1]
inline void multiply(int c, int a, int b) {
  require_tiles();
  for (int m = 0; m < configuration.rows[c]; m++)
    for (int k = 0; k < columns(a); k++)
      for (int n = 0; n < columns(c); n++) {
        const uint32_t left = tiles[a][m][k], right = tiles[b][k][n];
        float sum = value(tiles[c][m][n]);
        sum += value(left << 16) * value(right << 16);
        sum += value(left & 0xFFFF0000u) * value(right & 0xFFFF0000u);
        std::memcpy(&tiles[c][m][n], &sum, 4);
      }
}

}  // namespace emulated

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define __AMX_BF16__ 1
#define _tile_loadconfig emulated::load_configuration
#define _tile_release emulated::release
#define _tile_loadd emulated::load
#define _tile_stored emulated::store
#define _tile_zero emulated::zero
#define _tile_dpbf16ps emulated::multiply
#define syscall(...) 0L  // the permission is given
