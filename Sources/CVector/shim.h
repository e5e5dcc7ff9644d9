/// Sixteen bytes looked at together: what Swift's SIMD types cannot express, which is comparisons as bits, and bytes put
/// in another order. Functions of this header are all there is, no library.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// `SIMD16<UInt8>` in Swift.
typedef uint8_t cvector_bytes __attribute__((ext_vector_type(16)));

/// Bit n tells whether byte n, all ones or all zeros, is set.
static inline uint32_t cvector_bits(cvector_bytes bytes) {
  typedef bool flags __attribute__((ext_vector_type(16)));
  flags set = __builtin_convertvector(bytes, flags);
  uint16_t bits;
  __builtin_memcpy(&bits, &set, sizeof bits);
  return bits;
}

/// Bit n: byte n is a quote, a backslash, a control character or not ASCII.
static inline uint32_t cvector_to_look_at(cvector_bytes bytes) {
  return cvector_bits((cvector_bytes)((bytes == '"') | (bytes == '\\') | (bytes < 0x20) | (bytes >= 0x80)));
}

/// Bit n: byte n is a quote, a backslash or a control character.
static inline uint32_t cvector_to_escape(cvector_bytes bytes) {
  return cvector_bits((cvector_bytes)((bytes == '"') | (bytes == '\\') | (bytes < 0x20)));
}

/// Bit n: byte n is a digit.
static inline uint32_t cvector_digits(cvector_bytes bytes) {
  return cvector_bits((cvector_bytes)((cvector_bytes)(bytes - '0') < 10));
}

/// Bit n: byte n is a line feed or a carriage return.
static inline uint32_t cvector_line_breaks(cvector_bytes bytes) {
  return cvector_bits((cvector_bytes)((bytes == '\n') | (bytes == '\r')));
}

/// Bit n: byte n is white space in JSON.
static inline uint32_t cvector_white_space(cvector_bytes bytes) {
  return cvector_bits((cvector_bytes)((bytes == ' ') | (bytes == '\n') | (bytes == '\r') | (bytes == '\t')));
}

/// Whether this processor has what `cvector_escape` is made of (SSSE3 and POPCNT, any x86 since 2009).
static inline bool cvector_can_escape(void) {
#if defined(__x86_64__)
  return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt");
#else
  return false;
#endif
}

#if defined(__x86_64__)
/// Copies eight bytes with a backslash before each that is marked, and returns the end of the copy; stores sixteen.
__attribute__((target("ssse3,popcnt"))) static inline uint8_t *cvector_mark(
    uint8_t *target, uint64_t bytes, uint32_t marks, const uint8_t *orders) {
  typedef uint64_t words __attribute__((vector_size(16)));
  typedef char chars __attribute__((vector_size(16)));
  chars order;
  __builtin_memcpy(&order, orders + 16 * marks, sizeof order);
  words source = {bytes, 0x5c5c5c5c5c5c5c5c};
  chars text = __builtin_ia32_pshufb128((chars)source, order);
  __builtin_memcpy(target, &text, sizeof text);
  return target + 8 + __builtin_popcount(marks);
}
#endif

/// Copies `count` bytes, a multiple of sixteen, escaped for the inside of a JSON string. Not to be called unless
/// `cvector_can_escape()`.
///
/// - `target` has room for six bytes for each, and two more.
/// - `orders`: for each of the 256 sets of marked bytes among eight, where the up to sixteen bytes of their text come
///   from: 0 to 7 are the bytes, 8 a backslash.
/// - `escapes`: for each byte its text, the first character in the lowest bits, and in the highest eight how long it is.
///
/// Returns how many bytes were written.
#if defined(__x86_64__)
__attribute__((target("ssse3,popcnt")))
#endif
static inline size_t cvector_escape(
    uint8_t *target, const uint8_t *source, size_t count, const uint8_t *orders, const uint64_t *escapes) {
#if defined(__x86_64__)
  uint8_t *end = target;
  for (size_t done = 0; done < count; done += 16) {
    cvector_bytes bytes;
    __builtin_memcpy(&bytes, source + done, sizeof bytes);
    cvector_bytes marked = (cvector_bytes)((bytes == '"') | (bytes == '\\'));
    uint32_t controls = cvector_bits((cvector_bytes)(bytes < 0x20));
    if (__builtin_expect(controls != 0, 0)) {
      cvector_bytes tab = (cvector_bytes)(bytes == '\t'), feed = (cvector_bytes)(bytes == '\n'),
                    carriage = (cvector_bytes)(bytes == '\r');
      if (controls != cvector_bits(tab | feed | carriage)) {
        for (size_t index = done; index < done + 16; index++) {
          uint64_t escape = escapes[source[index]];
          __builtin_memcpy(end, &escape, sizeof escape);
          end += escape >> 56;
        }
        continue;
      }
      // These three have a letter, which stands after the backslash as a quote does.
      bytes ^= (tab & ('\t' ^ 't')) | (feed & ('\n' ^ 'n')) | (carriage & ('\r' ^ 'r'));
      marked |= tab | feed | carriage;
    }
    uint32_t marks = cvector_bits(marked);
    if (marks == 0) {
      __builtin_memcpy(end, &bytes, sizeof bytes);
      end += sizeof bytes;
      continue;
    }
    uint64_t halves[2];
    __builtin_memcpy(halves, &bytes, sizeof bytes);
    end = cvector_mark(end, halves[0], marks & 0xff, orders);
    end = cvector_mark(end, halves[1], marks >> 8, orders);
  }
  return (size_t)(end - target);
#else
  (void)target, (void)source, (void)count, (void)orders, (void)escapes;
  return 0;
#endif
}

/// glibc's, which `<string.h>` shows only with `_GNU_SOURCE`. https://man7.org/linux/man-pages/man3/memmem.3.html
void *memmem(const void *text, size_t length, const void *word, size_t word_length);
