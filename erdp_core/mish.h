// Mish(x) = x tanh(softplus(x)), for loops that the compiler turns into vectors.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

// e^x for x <= 0, to 1e-7 of itself down to e^-87: 2^n e^r with |r| <= ln(2) / 2, ln(2) in two parts, e^r as its series
// with the coefficients of the best polynomial.
inline float exp_of_negative(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float n = std::nearbyint(x * 1.44269504f);
  const float r = std::fma(n, 2.12194440e-4f, std::fma(n, -0.693359375f, x));
  float series = 1.9875691500e-4f;
  series = std::fma(series, r, 1.3981999507e-3f);
  series = std::fma(series, r, 8.3334519073e-3f);
  series = std::fma(series, r, 4.1665795894e-2f);
  series = std::fma(series, r, 1.6666665459e-1f);
  series = std::fma(series, r, 5.0000001201e-1f);
  const float power = std::fma(series * r, r, r) + 1.0f;
  const int32_t bits = (int32_t(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return power * scale;
}

// `mish_parts` of fused.py.
struct MishParts {
  float small, numerator, denominator;
};

inline MishParts mish_parts(float y) {
  const float small = exp_of_negative(-std::fabs(y)), square = small * small;
  const float numerator = y >= 0 ? 1 + 2 * small : square + 2 * small;
  return {small, numerator, numerator + (y >= 0 ? 2 * square : 2.0f)};
}

}  // namespace
