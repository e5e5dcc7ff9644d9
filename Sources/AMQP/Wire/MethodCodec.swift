internal import CRabbitMQ

/// Encodes and decodes method payloads with rabbitmq-c.
///
/// Safe because every pointer that the library sees is memory of `pool` or of a buffer that outlives the call, and
/// whatever is kept is copied out before the pool is recycled. Belongs to one thread, like the connection that owns it.
@safe final class MethodCodec {
  private let pool: UnsafeMutablePointer<amqp_pool_t>
  private var scratch = [UInt8](repeating: 0, count: MethodCodec.largestPayload)

  /// No method of ours may be larger: RabbitMQ's default frame limit, 131072, less the 8 bytes of frame around it.
  static let largestPayload = 131_064

  init() {
    unsafe pool = UnsafeMutablePointer<amqp_pool_t>.allocate(capacity: 1)
    unsafe init_amqp_pool(pool, 4096)
  }

  deinit {
    unsafe empty_amqp_pool(pool)
    unsafe pool.deallocate()
  }

  /// Appends the payload of `method` (class, method and fields, without a frame around it) to `output`.
  ///
  /// - Parameter limit: The largest payload that the broker takes.
  /// - Throws: `.unencodable` if a text or a table does not fit the wire's limits, or the method the broker's.
  func encode(_ method: ClientMethod, into output: inout [UInt8], atMost limit: Int = MethodCodec.largestPayload)
    throws(AMQPError)
  {
    defer { unsafe recycle_amqp_pool(pool) }
    if case .updateSecret(let secret, let reason) = method {
      return try Self.encode(updateSecret: secret, reason, into: &output, atMost: limit)
    }
    let id = Self.id(of: method)
    let fields = unsafe try fields(of: method)
    let count = unsafe scratch.withUnsafeMutableBytes { buffer in
      unsafe amqp_encode_method(id, fields, amqp_bytes_t(len: buffer.count, bytes: buffer.baseAddress))
    }
    guard count >= 0 else {
      throw AMQPError(
        .unencodable(text: "\(Self.name(id)) is larger than \(Self.largestPayload) bytes or malformed (\(count))"),
        during: "encoding \(Self.name(id))")
    }
    guard Int(count) + 4 <= limit else {
      throw AMQPError(
        .unencodable(
          text: "\(Self.name(id)) takes \(Int(count) + 4) bytes, and the broker's frame_max leaves \(limit)"),
        during: "encoding \(Self.name(id))")
    }
    unsafe withUnsafeBytes(of: id.bigEndian) { unsafe output.append(contentsOf: $0) }
    output.append(contentsOf: scratch[0..<Int(count)])
  }

  /// Decodes the payload of a method frame.
  ///
  /// The library sees only methods without tables: it decodes those by recursion, and takes a hundred times their size
  /// for what nests deeply. A method that a consumer has no use for is not decoded at all.
  ///
  /// - Throws: `.malformed` if it is cut short or garbled.
  func decode(_ payload: Span<UInt8>) throws(AMQPError) -> ServerMethod {
    guard payload.count >= 4 else {
      throw AMQPError(.malformed(text: "a method frame of \(payload.count) bytes"), during: "reading a method")
    }
    defer { unsafe recycle_amqp_pool(pool) }
    let id = (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(payload[$1]) }
    if id == UInt32(AMQP_CONNECTION_START_METHOD) { return try Self.start(payload) }
    if id == Self.updateSecretOk { return .updateSecretOk }
    guard Self.isDecoded(id) else { return .other(id: id) }
    let decoded: ServerMethod? = unsafe payload.withUnsafeBytes { bytes in
      var fields: UnsafeMutableRawPointer?
      let encoded = unsafe amqp_bytes_t(
        len: bytes.count - 4, bytes: UnsafeMutableRawPointer(mutating: bytes.baseAddress! + 4))
      guard unsafe amqp_decode_method(id, pool, encoded, &fields) >= 0, let fields = unsafe fields else {
        return unsafe amqp_method_name(id) == nil ? .other(id: id) : nil
      }
      return unsafe Self.method(id, fields)
    }
    guard let decoded else {
      throw AMQPError(.malformed(text: "\(Self.name(id)) with fields that do not decode"), during: "reading a method")
    }
    return decoded
  }

  /// `basic.consume` and the like, or the number if the library knows no name.
  static func name(_ id: UInt32) -> String {
    guard let name = unsafe amqp_method_name(id) else { return "method \(id >> 16).\(id & 0xFFFF)" }
    // The library answers AMQP_BASIC_CONSUME_METHOD; people know it as basic.consume.
    let words = unsafe String(cString: name).lowercased().split(separator: "_").dropFirst().dropLast()
    return words.first.map { "\($0).\(words.dropFirst().joined(separator: "-"))" } ?? "method \(id)"
  }
}

extension MethodCodec {
  /// `connection.update-secret` and its answer, of which the library knows nothing.
  /// https://www.rabbitmq.com/amqp-0-9-1-reference#connection.update-secret
  private static let (updateSecret, updateSecretOk) = (UInt32(10) << 16 | 70, UInt32(10) << 16 | 71)

  private static func encode(
    updateSecret secret: [UInt8], _ reason: String, into output: inout [UInt8], atMost limit: Int
  ) throws(AMQPError) {
    let reason = Array(reason.utf8)
    let size = 4 + 4 + secret.count + 1 + reason.count
    guard size <= limit, reason.count <= 255 else {
      throw AMQPError(
        .unencodable(text: "connection.update-secret takes \(size) bytes, and the broker's frame_max leaves \(limit)"),
        during: "encoding connection.update-secret")
    }
    unsafe withUnsafeBytes(of: updateSecret.bigEndian) { unsafe output.append(contentsOf: $0) }
    unsafe withUnsafeBytes(of: UInt32(secret.count).bigEndian) { unsafe output.append(contentsOf: $0) }
    output += secret + [UInt8(reason.count)] + reason
  }

  private static func id(of method: ClientMethod) -> UInt32 {
    switch method {
    case .startOk: UInt32(AMQP_CONNECTION_START_OK_METHOD)
    case .tuneOk: UInt32(AMQP_CONNECTION_TUNE_OK_METHOD)
    case .open: UInt32(AMQP_CONNECTION_OPEN_METHOD)
    case .updateSecret: updateSecret
    case .close: UInt32(AMQP_CONNECTION_CLOSE_METHOD)
    case .closeOk: UInt32(AMQP_CONNECTION_CLOSE_OK_METHOD)
    case .channelOpen: UInt32(AMQP_CHANNEL_OPEN_METHOD)
    case .channelClose: UInt32(AMQP_CHANNEL_CLOSE_METHOD)
    case .channelCloseOk: UInt32(AMQP_CHANNEL_CLOSE_OK_METHOD)
    case .queueDeclare: UInt32(AMQP_QUEUE_DECLARE_METHOD)
    case .queueBind: UInt32(AMQP_QUEUE_BIND_METHOD)
    case .exchangeDeclarePassive: UInt32(AMQP_EXCHANGE_DECLARE_METHOD)
    case .qos: UInt32(AMQP_BASIC_QOS_METHOD)
    case .consume: UInt32(AMQP_BASIC_CONSUME_METHOD)
    case .cancel: UInt32(AMQP_BASIC_CANCEL_METHOD)
    case .ack: UInt32(AMQP_BASIC_ACK_METHOD)
    case .reject: UInt32(AMQP_BASIC_REJECT_METHOD)
    }
  }

  /// The library's struct for `method`, in the pool's memory.
  private func fields(of method: ClientMethod) throws(AMQPError) -> UnsafeMutableRawPointer? {
    switch method {
    case .startOk(let properties, let mechanism, let response):
      return unsafe place(
        amqp_connection_start_ok_t(
          client_properties: try table(properties), mechanism: try shortString(mechanism),
          response: bytes(response), locale: try shortString("en_US")))
    case .tuneOk(let channelMax, let frameMax, let heartbeat):
      return unsafe place(
        amqp_connection_tune_ok_t(channel_max: channelMax, frame_max: frameMax, heartbeat: heartbeat))
    case .open(let virtualHost):
      return unsafe place(
        amqp_connection_open_t(
          virtual_host: try shortString(virtualHost), capabilities: amqp_empty_bytes, insist: 0))
    case .updateSecret: fatalError("encoded without the library")
    case .close(let code, let text):
      return unsafe place(
        amqp_connection_close_t(reply_code: code, reply_text: try shortString(text), class_id: 0, method_id: 0))
    case .channelClose(let code, let text):
      return unsafe place(
        amqp_channel_close_t(reply_code: code, reply_text: try shortString(text), class_id: 0, method_id: 0))
    case .closeOk: return unsafe place(amqp_connection_close_ok_t())
    case .channelCloseOk: return unsafe place(amqp_channel_close_ok_t())
    case .channelOpen: return unsafe place(amqp_channel_open_t(out_of_band: amqp_empty_bytes))
    case .queueDeclare(let queue, let passive):
      return unsafe place(
        amqp_queue_declare_t(
          ticket: 0, queue: try shortString(queue.name), passive: passive ? 1 : 0, durable: queue.durable ? 1 : 0,
          exclusive: queue.exclusive ? 1 : 0, auto_delete: queue.autoDelete ? 1 : 0, nowait: 0,
          arguments: try table(passive ? ArgumentTable() : queue.arguments)))
    case .queueBind(let queue, let binding):
      return unsafe place(
        amqp_queue_bind_t(
          ticket: 0, queue: try shortString(queue), exchange: try shortString(binding.exchange),
          routing_key: try shortString(binding.routingKey), nowait: 0, arguments: try table(binding.arguments)))
    case .exchangeDeclarePassive(let exchange):
      // The type is not looked at in a passive declaration, but has to be there.
      return unsafe place(
        amqp_exchange_declare_t(
          ticket: 0, exchange: try shortString(exchange), type: try shortString("direct"), passive: 1, durable: 0,
          auto_delete: 0, internal: 0, nowait: 0, arguments: amqp_empty_table))
    case .qos(let prefetchCount):
      return unsafe place(amqp_basic_qos_t(prefetch_size: 0, prefetch_count: prefetchCount, global: 0))
    case .consume(let consumption, let tag):
      return unsafe place(
        amqp_basic_consume_t(
          ticket: 0, queue: try shortString(consumption.queue), consumer_tag: try shortString(tag), no_local: 0,
          no_ack: consumption.noAck ? 1 : 0, exclusive: consumption.exclusive ? 1 : 0, nowait: 0,
          arguments: try table(consumption.arguments)))
    case .cancel(let tag): return unsafe place(amqp_basic_cancel_t(consumer_tag: try shortString(tag), nowait: 0))
    case .ack(let tag, let multiple):
      return unsafe place(amqp_basic_ack_t(delivery_tag: tag, multiple: multiple ? 1 : 0))
    case .reject(let tag, let requeue):
      return unsafe place(amqp_basic_reject_t(delivery_tag: tag, requeue: requeue ? 1 : 0))
    }
  }

  private func place<Fields>(_ fields: Fields) -> UnsafeMutableRawPointer? {
    let place = unsafe allocate(Fields.self, 1)
    unsafe place.initialize(to: fields)
    return UnsafeMutableRawPointer(place)
  }

  /// Room for `count` values (at least one) in the pool, 8-byte aligned; lives until the pool is recycled.
  private func allocate<Value>(_ type: Value.Type, _ count: Int) -> UnsafeMutablePointer<Value> {
    let room = max(MemoryLayout<Value>.stride * count, 1)
    guard let memory = unsafe amqp_pool_alloc(pool, room) else { fatalError("out of memory for \(room) bytes") }
    return unsafe memory.bindMemory(to: type, capacity: max(count, 1))
  }

  private func bytes(_ value: [UInt8]) -> amqp_bytes_t {
    let copy = unsafe allocate(UInt8.self, value.count)
    for (index, byte) in value.enumerated() { unsafe (copy + index).initialize(to: byte) }
    return unsafe amqp_bytes_t(len: value.count, bytes: UnsafeMutableRawPointer(copy))
  }

  /// A short string: at most 255 bytes. https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf §4.2.5.3
  private func shortString(_ text: String) throws(AMQPError) -> amqp_bytes_t {
    guard text.utf8.count <= 255 else {
      throw AMQPError(
        .unencodable(text: "a name of \(text.utf8.count) bytes; AMQP allows 255 (\(text.prefix(40))…)"),
        during: "encoding a method")
    }
    return unsafe bytes(Array(text.utf8))
  }

  private func table(_ table: ArgumentTable) throws(AMQPError) -> amqp_table_t {
    let entries = unsafe allocate(amqp_table_entry_t.self, table.entries.count)
    for (index, entry) in table.entries.enumerated() {
      let key = unsafe try shortString(entry.key)
      let value = unsafe try fieldValue(entry.value)
      unsafe (entries + index).initialize(to: amqp_table_entry_t(key: key, value: value))
    }
    return unsafe amqp_table_t(num_entries: Int32(table.entries.count), entries: entries)
  }

  private func fieldValue(_ argument: Argument) throws(AMQPError) -> amqp_field_value_t {
    var value = unsafe amqp_field_value_t()
    switch argument {
    case .null: unsafe value.kind = UInt8(AMQP_FIELD_KIND_VOID.rawValue)
    case .bool(let flag):
      unsafe value.kind = UInt8(AMQP_FIELD_KIND_BOOLEAN.rawValue)
      unsafe value.value.boolean = flag ? 1 : 0
    case .integer(let integer):
      unsafe value.kind = UInt8(AMQP_FIELD_KIND_I64.rawValue)
      unsafe value.value.i64 = integer
    case .double(let double):
      unsafe value.kind = UInt8(AMQP_FIELD_KIND_F64.rawValue)
      unsafe value.value.f64 = double
    case .timestamp(let seconds):
      unsafe value.kind = UInt8(AMQP_FIELD_KIND_TIMESTAMP.rawValue)
      unsafe value.value.u64 = seconds
    case .string(let text):
      unsafe value.kind = UInt8(AMQP_FIELD_KIND_UTF8.rawValue)
      unsafe value.value.bytes = bytes(Array(text.utf8))
    case .array(let elements):
      unsafe value.kind = UInt8(AMQP_FIELD_KIND_ARRAY.rawValue)
      let entries = unsafe allocate(amqp_field_value_t.self, elements.count)
      for (index, element) in elements.enumerated() {
        let field = unsafe try fieldValue(element)
        unsafe (entries + index).initialize(to: field)
      }
      unsafe value.value.array = amqp_array_t(num_entries: Int32(elements.count), entries: entries)
    case .table(let inner):
      unsafe value.kind = UInt8(AMQP_FIELD_KIND_TABLE.rawValue)
      unsafe value.value.table = try table(inner)
    }
    return unsafe value
  }

  private static func method(_ id: UInt32, _ fields: UnsafeMutableRawPointer) -> ServerMethod {
    switch id {
    case UInt32(AMQP_CONNECTION_SECURE_METHOD): return .secure
    case UInt32(AMQP_CONNECTION_TUNE_METHOD):
      let tune = unsafe fields.assumingMemoryBound(to: amqp_connection_tune_t.self).pointee
      return .tune(channelMax: tune.channel_max, frameMax: tune.frame_max, heartbeatSeconds: tune.heartbeat)
    case UInt32(AMQP_CONNECTION_OPEN_OK_METHOD): return .openOk
    case UInt32(AMQP_CONNECTION_CLOSE_METHOD):
      let close = unsafe fields.assumingMemoryBound(to: amqp_connection_close_t.self).pointee
      return unsafe .close(code: close.reply_code, text: text(close.reply_text))
    case UInt32(AMQP_CONNECTION_CLOSE_OK_METHOD): return .closeOk
    case UInt32(AMQP_CONNECTION_BLOCKED_METHOD):
      return unsafe .blocked(
        reason: text(fields.assumingMemoryBound(to: amqp_connection_blocked_t.self).pointee.reason))
    case UInt32(AMQP_CONNECTION_UNBLOCKED_METHOD): return .unblocked
    case UInt32(AMQP_CHANNEL_OPEN_OK_METHOD): return .channelOpenOk
    case UInt32(AMQP_CHANNEL_CLOSE_METHOD):
      let close = unsafe fields.assumingMemoryBound(to: amqp_channel_close_t.self).pointee
      return unsafe .channelClose(code: close.reply_code, text: text(close.reply_text))
    case UInt32(AMQP_CHANNEL_CLOSE_OK_METHOD): return .channelCloseOk
    case UInt32(AMQP_EXCHANGE_DECLARE_OK_METHOD): return .exchangeDeclareOk
    case UInt32(AMQP_QUEUE_DECLARE_OK_METHOD):
      let ok = unsafe fields.assumingMemoryBound(to: amqp_queue_declare_ok_t.self).pointee
      return unsafe .queueDeclareOk(
        QueueStatus(name: text(ok.queue), messages: ok.message_count, consumers: ok.consumer_count))
    case UInt32(AMQP_QUEUE_BIND_OK_METHOD): return .queueBindOk
    case UInt32(AMQP_BASIC_QOS_OK_METHOD): return .qosOk
    case UInt32(AMQP_BASIC_CONSUME_OK_METHOD):
      return unsafe .consumeOk(
        tag: text(fields.assumingMemoryBound(to: amqp_basic_consume_ok_t.self).pointee.consumer_tag))
    case UInt32(AMQP_BASIC_CANCEL_OK_METHOD): return .cancelOk
    case UInt32(AMQP_BASIC_CANCEL_METHOD):
      return unsafe .cancel(tag: text(fields.assumingMemoryBound(to: amqp_basic_cancel_t.self).pointee.consumer_tag))
    default: return .other(id: id)
    }
  }

  private static func text(_ bytes: amqp_bytes_t) -> String {
    guard let start = unsafe bytes.bytes else { return "" }
    return unsafe String(decoding: UnsafeRawBufferPointer(start: start, count: bytes.len), as: UTF8.self)
  }

  /// What a server may send to a consumer, and what of it has no tables.
  private static func isDecoded(_ id: UInt32) -> Bool {
    switch id {
    case AMQP_CONNECTION_SECURE_METHOD, AMQP_CONNECTION_TUNE_METHOD, AMQP_CONNECTION_OPEN_OK_METHOD,
      AMQP_CONNECTION_CLOSE_METHOD, AMQP_CONNECTION_CLOSE_OK_METHOD, AMQP_CONNECTION_BLOCKED_METHOD,
      AMQP_CONNECTION_UNBLOCKED_METHOD, AMQP_CHANNEL_OPEN_OK_METHOD, AMQP_CHANNEL_CLOSE_METHOD,
      AMQP_CHANNEL_CLOSE_OK_METHOD, AMQP_EXCHANGE_DECLARE_OK_METHOD, AMQP_QUEUE_DECLARE_OK_METHOD,
      AMQP_QUEUE_BIND_OK_METHOD, AMQP_BASIC_QOS_OK_METHOD, AMQP_BASIC_CONSUME_OK_METHOD,
      AMQP_BASIC_CANCEL_OK_METHOD, AMQP_BASIC_CANCEL_METHOD:
      true
    default: false
    }
  }

  /// `connection.start`: two octets of version, the server's properties, mechanisms, locales.
  private static func start(_ payload: Span<UInt8>) throws(AMQPError) -> ServerMethod {
    var reader = FieldReader(4..<payload.count, of: payload)
    do throws(FieldError) {
      _ = try reader.integer(payload, as: UInt16.self)
      let properties = try reader.long(payload)
      let mechanisms = try reader.long(payload)
      _ = try reader.long(payload)
      return .start(mechanisms: text(payload, mechanisms, atMost: 1024), server: try identity(payload, properties))
    } catch {
      throw AMQPError(
        .malformed(text: "connection.start with fields that do not decode"), during: "reading a method")
    }
  }

  private static func identity(_ payload: Span<UInt8>, _ range: Range<Int>) throws(FieldError) -> ServerIdentity {
    var identity = ServerIdentity()
    var table = FieldTable(range, of: payload)
    while let field = try table.next(payload) {
      guard case .string(let value) = field.value else { continue }
      switch text(payload, field.key) {
      case "product": identity.product = text(payload, value)
      case "version": identity.version = text(payload, value)
      case "cluster_name": identity.clusterName = text(payload, value)
      default: break
      }
    }
    return identity
  }

  /// Bytes as text, of which a broker of good will needs no more than `limit`.
  private static func text(_ payload: Span<UInt8>, _ range: Range<Int>, atMost limit: Int = 255) -> String {
    var bytes: [UInt8] = []
    bytes.append(payload, range.lowerBound..<min(range.upperBound, range.lowerBound + limit))
    return String(decoding: bytes, as: UTF8.self)
  }
}
