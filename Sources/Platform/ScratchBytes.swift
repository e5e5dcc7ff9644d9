/// Bytes that are put together from many small pieces, in memory that the caller lends, mostly on its stack.
///
/// Not an array: appending is nearly all that a digest costs beside SHA-256 itself, and rendering a property, and an
/// array asks at every byte whether anybody shares it. If the lent memory does not suffice, it goes on in memory of
/// its own.
///
/// Safe as long as the lent memory is not used otherwise while this lives; every write makes sure of its room first.
@safe public struct ScratchBytes: ~Copyable {
  @usableFromInline var memory: UnsafeMutableRawPointer
  @usableFromInline var capacity: Int
  @usableFromInline var used = 0
  /// The memory is not the lent one any more.
  private var isOwned = false

  /// Bytes that a stack spares without asking the heap: what `withUnsafeTemporaryAllocation` puts there.
  public static let stackBytes = 1024

  /// - Parameter lent: At least one byte; not touched any more once this ends.
  public init(_ lent: UnsafeMutableRawBufferPointer) {
    unsafe memory = lent.baseAddress!
    capacity = lent.count
  }

  deinit { if isOwned { unsafe memory.deallocate() } }

  /// How many bytes there are.
  @inlinable public var count: Int { used }

  /// What was appended; valid until the next change.
  @inlinable public var bytes: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(start: memory, count: used) }

  /// Forgets everything from the `mark`-th byte on.
  @inlinable public mutating func removeAll(from mark: Int) { used = min(used, mark) }

  /// Appends one byte.
  @inlinable @inline(__always) public mutating func append(_ byte: UInt8) {
    makeRoom(1)
    unsafe memory.storeBytes(of: byte, toByteOffset: used, as: UInt8.self)
    used += 1
  }

  /// Appends eight bytes, the highest first.
  @inlinable @inline(__always) public mutating func append(count value: Int) {
    makeRoom(8)
    unsafe memory.storeBytes(of: UInt64(truncatingIfNeeded: value).bigEndian, toByteOffset: used, as: UInt64.self)
    used += 8
  }

  /// Appends what a value is, and the value.
  @inlinable @inline(__always) public mutating func append(tag: UInt8, _ value: UInt64) {
    append(tag)
    append(count: Int(truncatingIfNeeded: value))
  }

  /// Appends how many bytes `range` of `span` has, and the bytes.
  @inlinable @inline(__always) public mutating func append(counted span: Span<UInt8>, _ range: Range<Int>) {
    append(count: range.count)
    append(copying: span.extracting(range))
  }

  /// Appends a copy of `span`.
  @inlinable @inline(__always) public mutating func append(copying span: Span<UInt8>) {
    // The pointer is read only during the call.
    unsafe span.withUnsafeBytes { unsafe append(copying: $0) }
  }

  /// Appends the UTF-8 of a literal.
  @inlinable @inline(__always) public mutating func append(text: StaticString) {
    // A static string's bytes live for ever.
    unsafe append(copying: UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  @inlinable @inline(__always) mutating func append(copying bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress else { return }
    makeRoom(bytes.count)
    unsafe (memory + used).copyMemory(from: base, byteCount: bytes.count)
    used += bytes.count
  }

  /// Lets `body` append into room for `most` bytes; what it does not write is given back.
  @inlinable @inline(__always) public mutating func append(
    addingCapacity most: Int, _ body: (inout OutputSpan<UInt8>) -> Void
  ) {
    makeRoom(most)
    let room = unsafe UnsafeMutableBufferPointer(
      start: (memory + used).assumingMemoryBound(to: UInt8.self), count: capacity - used)
    var output = unsafe OutputSpan(buffer: room, initializedCount: 0)
    body(&output)
    used += unsafe output.finalize(for: room)
  }

  @inlinable @inline(__always) mutating func makeRoom(_ further: Int) {
    if capacity - used < further { grow(further) }
  }

  @inline(never) @usableFromInline mutating func grow(_ further: Int) {
    let larger = max(capacity * 2, used + further)
    let moved = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 16)
    unsafe moved.copyMemory(from: memory, byteCount: used)
    if isOwned { unsafe memory.deallocate() }
    unsafe memory = moved
    capacity = larger
    isOwned = true
  }
}
