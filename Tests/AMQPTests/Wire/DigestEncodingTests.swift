import Platform
import Support
import Testing

@testable import AMQP

/// The canonical encoding, byte by byte, against a plain encoder that was written for reading.
struct DigestEncodingTests {
  /// As `DigestMaker` documents it, for a block that decodes.
  private struct Plain {
    var bytes: [UInt8] = []
    var form: DigestForm

    mutating func number(_ value: UInt64) {
      for shift in stride(from: 56, through: 0, by: -8) {
        bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(shift)))
      }
    }

    mutating func counted(_ part: [UInt8]) {
      number(UInt64(part.count))
      bytes += part
    }

    mutating func table(_ range: Range<Int>, _ block: [UInt8], depth: Int) {
      var fields: [(key: [UInt8], value: FieldValue)] = []
      var table = FieldTable(range, of: block.span)
      do {
        while let field = try table.next(block.span) { fields.append((Array(block[field.key]), field.value)) }
      } catch {
        return counted(Array(block[range]))
      }
      if depth == 0 && form != .complete {
        let volatile = ["x-delivery-count", "x-acquired-count", "x-stream-offset"].map { Array($0.utf8) }
        fields.removeAll { volatile.contains($0.key) }
      }
      let sorted = fields.enumerated().sorted { one, other in
        one.element.key == other.element.key
          ? one.offset < other.offset : one.element.key.lexicographicallyPrecedes(other.element.key)
      }
      number(UInt64(fields.count))
      for (_, field) in sorted {
        counted(field.key)
        value(field.value, block, depth: depth)
      }
    }

    mutating func value(_ value: FieldValue, _ block: [UInt8], depth: Int) {
      func tagged(_ tag: UInt8, _ word: UInt64) {
        bytes.append(tag)
        number(word)
      }
      switch value {
      case .void: bytes.append(0)
      case .bool(let flag): tagged(1, flag ? 1 : 0)
      case .integer(let integer): tagged(2, UInt64(bitPattern: integer))
      case .float(let float): tagged(3, UInt64(float.bitPattern))
      case .double(let double): tagged(4, double.bitPattern)
      case .decimal(let scale, let unscaled):
        tagged(5, UInt64(scale))
        tagged(5, UInt64(bitPattern: Int64(unscaled)))
      case .timestamp(let seconds): tagged(6, seconds)
      case .string(let range):
        bytes.append(7)
        counted(Array(block[range]))
      case .bytes(let range):
        bytes.append(8)
        counted(Array(block[range]))
      case .table(let range):
        bytes.append(9)
        if depth < 32 { table(range, block, depth: depth + 1) } else { counted(Array(block[range])) }
      case .array(let range):
        bytes.append(10)
        guard depth < 32 else { return counted(Array(block[range])) }
        let mark = bytes
        var array = FieldArray(range, of: block.span)
        do {
          while let element = try array.next(block.span) { self.value(element, block, depth: depth + 1) }
        } catch {
          bytes = mark
          return counted(Array(block[range]))
        }
        bytes.append(11)
      }
    }

    /// The encoding of a message with empty names and an empty body.
    static func encode(_ block: [UInt8], _ form: DigestForm) -> [UInt8] {
      var plain = Plain(form: form)
      plain.bytes = [1]
      plain.counted([])
      plain.counted([])
      if let headers = (try? BasicProperties(block: block.span))?.headers {
        var table = Plain(form: form)
        table.table(headers, block, depth: 0)
        if form != .first && table.bytes == [UInt8](repeating: 0, count: 8) {
          // An empty table is none: neither its flag nor its length counts.
          plain.counted(
            [block[0] & 0b1101_1111] + block[1..<(headers.lowerBound - 4)] + block[headers.upperBound...])
        } else {
          plain.counted(Array(block[..<(headers.lowerBound - 4)]))
          plain.counted(Array(block[headers.upperBound...]))
          plain.bytes += table.bytes
        }
      } else {
        plain.counted(block)
      }
      plain.number(0)
      return plain.bytes
    }
  }

  /// Field values of every type, some of them damaged, in tables of few and many fields with keys that repeat.
  private struct Generator {
    var random: Seeded

    mutating func byte(_ range: ClosedRange<UInt8> = 0...255) -> UInt8 { UInt8.random(in: range, using: &random) }

    mutating func octets(_ count: Int) -> [UInt8] { (0..<count).map { _ in byte() } }

    mutating func long(_ content: [UInt8]) -> [UInt8] {
      [0, UInt8(content.count >> 16), UInt8(content.count >> 8 & 0xFF), UInt8(content.count & 0xFF)] + content
    }

    mutating func value(_ depth: Int) -> [UInt8] {
      let simple: [(String, Int)] = [
        ("t", 1), ("b", 1), ("B", 1), ("s", 2), ("u", 2), ("I", 4), ("i", 4), ("l", 8), ("L", 8), ("f", 4), ("d", 8),
        ("D", 5), ("T", 8), ("V", 0),
      ]
      switch Int.random(in: 0..<20, using: &random) {
      case 0: return Array("F".utf8) + long(table(depth + 1))
      case 1:
        var content: [UInt8] = []
        if depth < 4 { for _ in 0..<byte(0...3) { content += value(depth + 1) } }
        return Array("A".utf8) + long(content + (byte(0...9) == 0 ? [0x3F] : []))
      case 2: return Array("S".utf8) + long(octets(Int(byte(0...9))))
      case 3: return Array("x".utf8) + long(octets(Int(byte(0...9))))
      default:
        let (type, width) = simple[Int.random(in: 0..<simple.count, using: &random)]
        return Array(type.utf8) + octets(width)
      }
    }

    mutating func table(_ depth: Int) -> [UInt8] {
      var table: [UInt8] = []
      let count = depth > 4 ? 0 : byte(0...7) == 0 ? byte(17...40) : byte(0...6)
      let names = ["x-delivery-count", "x-acquired-count", "x-stream-offset", "x-stream-offsez", "", "a", "ab", "b"]
      for _ in 0..<(depth > 1 ? min(count, 5) : count) {
        let name = names[Int.random(in: 0..<names.count, using: &random)] + (byte(0...1) == 0 ? "" : "\(byte(0...9))")
        table += [UInt8(name.utf8.count)] + Array(name.utf8) + value(depth)
      }
      return table + (byte(0...19) == 0 ? [1] : [])
    }

    mutating func block() -> [UInt8] {
      switch byte(0...9) {
      case 0: return octets(Int(byte(0...12)))
      case 1: return [0x80, 0, 2] + octets(2)
      // Content type, headers, delivery mode.
      default: return [0xB0, 0, 3] + octets(3) + long(table(0)) + [2]
      }
    }
  }

  @Test(arguments: 0..<40 as Range<UInt64>) func `messages are encoded as documented`(seed: UInt64) throws {
    var generator = Generator(random: Seeded(seed))
    let maker = DigestMaker()
    for _ in 0..<200 {
      let block = generator.block()
      var batch = DeliveryBatch()
      var assembler = DeliveryAssembler(consumer: "c")
      try assembler.deliver(([1, 0x63] + [0, 0, 0, 0, 0, 0, 0, 1] + [0, 0, 0]).span, into: &batch)
      try assembler.header(([0, 60, 0, 0] + [UInt8](repeating: 0, count: 8) + block).span, at: 0, into: &batch)
      // Three bytes of memory, so that it has to grow, and the other way round.
      let lent = seed % 2 == 0 ? 3 : 4096
      let form: DigestForm = [.complete, .withoutBrokers, .first][Int(generator.byte(0...2))]
      let encoded = unsafe withUnsafeTemporaryAllocation(byteCount: lent, alignment: 16) { scratch in
        var canonical = unsafe ScratchBytes(scratch)
        let properties = try? BasicProperties(block: block.span)
        maker.encode(batch.deliveries[0], of: batch, properties: properties, form: form, to: &canonical)
        return unsafe Array(canonical.bytes)
      }
      #expect(encoded == Plain.encode(block, form), "block \(block)")
    }
  }
}
