internal import Glibc

/// The bytes that a digest is made of, in memory that is used again for the next one.
///
/// Not an array: appending is nearly all that a digest costs beside SHA-256 itself, and an array asks at every byte
/// whether anybody shares it.
///
/// Safe, because the memory is private, freed once, and every write makes sure of its room first.
@safe struct CanonicalBytes: ~Copyable {
  private var memory: UnsafeMutableRawPointer
  private var capacity: Int
  private(set) var count = 0

  init() {
    capacity = 1024
    unsafe memory = .allocate(byteCount: capacity, alignment: 16)
  }

  deinit { unsafe memory.deallocate() }

  /// What was appended; valid until the next change.
  var bytes: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(start: memory, count: count) }

  mutating func removeAll() { count = 0 }

  /// Forgets everything from the `mark`-th byte on.
  mutating func removeAll(from mark: Int) { count = min(count, mark) }

  @inline(__always) mutating func append(_ byte: UInt8) {
    makeRoom(1)
    unsafe memory.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
    count += 1
  }

  /// Appends eight bytes, the highest first.
  @inline(__always) mutating func append(count value: Int) {
    makeRoom(8)
    unsafe memory.storeBytes(of: UInt64(truncatingIfNeeded: value).bigEndian, toByteOffset: count, as: UInt64.self)
    count += 8
  }

  /// Appends what a value is, and the value.
  @inline(__always) mutating func append(tag: UInt8, _ value: UInt64) {
    append(tag)
    append(count: Int(truncatingIfNeeded: value))
  }

  /// Appends how many bytes `range` of `span` has, and the bytes.
  @inline(__always) mutating func append(counted span: Span<UInt8>, _ range: Range<Int>) {
    append(count: range.count)
    makeRoom(range.count)
    unsafe span.extracting(range).withUnsafeBytes { source in
      guard let base = source.baseAddress else { return }
      unsafe (memory + count).copyMemory(from: base, byteCount: source.count)
    }
    count += range.count
  }

  @inline(__always) private mutating func makeRoom(_ further: Int) {
    if capacity - count < further { grow(further) }
  }

  @inline(never) private mutating func grow(_ further: Int) {
    let larger = max(capacity * 2, count + further)
    let moved = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 16)
    unsafe moved.copyMemory(from: memory, byteCount: count)
    unsafe memory.deallocate()
    unsafe memory = moved
    capacity = larger
  }
}
