import NIOCore
import NIOHTTP1

/// What a client gets.
struct StatusAnswer: Sendable {
  var status: HTTPResponseStatus
  var text: String
  var type = "text/plain; charset=utf-8"
}

/// Serves one client: a request, its answer, the next one. On the thread of its channel only.
final class StatusClient: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  /// What a page says; on any thread, in any time.
  typealias Answering = @Sendable (StatusRequest.Page, any EventLoop) -> EventLoopFuture<StatusAnswer>

  /// What a client may have.
  enum Limits {
    /// Time for a whole request, and as much for its answer to be taken.
    static let patience = TimeAmount.seconds(30)
    /// Bytes of a request's fields, one and all; a browser's are about a kilobyte.
    static let fieldBytes = 8 << 10
    static let headBytes = 16 << 10
    static let fields = 100
    /// Bytes that are read at once.
    static let readBytes = 2 << 10
    /// Bytes of answers that wait to be taken, before the client counts as one that does not read.
    static let waitingBytes = 64 << 10
  }

  /// The clients of one listener, on its one thread only.
  final class Room: @unchecked Sendable {
    var places: StatusPlaces<ObjectIdentifier>
    var channels: [ObjectIdentifier: any Channel] = [:]

    init(limit: Int) { places = StatusPlaces(limit: limit) }
  }

  /// All that stands between a client's socket and `answer`.
  static func handlers(names: HostNames, room: Room, answer: @escaping Answering) -> [any ChannelHandler] {
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = Limits.fieldBytes
    limits.maxHeaderListSize = Limits.headBytes
    limits.maxHeaderFieldCount = Limits.fields
    return [
      HTTPResponseEncoder(), ByteToMessageHandler(HTTPRequestDecoder(limitConfiguration: limits)),
      HTTPServerPipelineHandler(), HTTPServerProtocolErrorHandler(),
      StatusClient(names: names, room: room, answer: answer),
    ]
  }

  private let names: HostNames
  private let room: Room
  private let answer: Answering
  private var deadline: Scheduled<Void>?
  /// What the request asks for whose end is being read.
  private var asked: (StatusRequest.Page, HTTPRequestHead)?

  private init(names: HostNames, room: Room, answer: @escaping Answering) {
    self.names = names
    self.room = room
    self.answer = answer
  }

  func channelActive(context: ChannelHandlerContext) {
    let client = ObjectIdentifier(context.channel)
    room.channels[client] = context.channel
    if let displaced = room.places.arrived(client) { room.channels.removeValue(forKey: displaced)?.close(promise: nil) }
    beginWaiting(context)
  }

  func channelInactive(context: ChannelHandlerContext) {
    deadline?.cancel()
    let client = ObjectIdentifier(context.channel)
    room.places.left(client)
    room.channels[client] = nil
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      // It asks on and on and does not take the answers.
      guard context.channel.isWritable else { return context.close(promise: nil) }
      switch StatusRequest(head, names: names) {
      case .page(let page): asked = (page, head)
      // Nothing behind it is waited for.
      case .refused(let status, let text): write(StatusAnswer(status: status, text: text), to: head, context)
      }
    case .body: break
    case .end:
      guard let (page, head) = asked else { return }
      asked = nil
      beginWaiting(context)
      let client = NIOLoopBound((context, self), eventLoop: context.eventLoop)
      answer(page, context.eventLoop).whenComplete { result in
        let (context, handler) = client.value
        switch result {
        case .success(let answer): handler.write(answer, to: head, context)
        case .failure: context.close(promise: nil)
        }
      }
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    // Nothing more is asked, and everything was answered.
    if case ChannelEvent.inputClosed? = event as? ChannelEvent { context.close(promise: nil) }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

  private func write(_ answer: StatusAnswer, to head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    guard context.channel.isActive else { return }
    let body = context.channel.allocator.buffer(string: answer.text)
    var headers: HTTPHeaders = [
      "Content-Type": answer.type, "Content-Length": "\(body.readableBytes)", "Cache-Control": "no-store",
      "X-Content-Type-Options": "nosniff",
    ]
    if answer.status == .methodNotAllowed { headers.add(name: "Allow", value: "GET, HEAD") }
    // What might be left of a request that was refused is not read.
    let isLast = !head.isKeepAlive || answer.status.code >= 400 && answer.status != .serviceUnavailable
    if isLast { headers.add(name: "Connection", value: "close") }
    context.write(
      wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: answer.status, headers: headers))), promise: nil
    )
    // The answer to HEAD is that to GET without the body. https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2
    if head.method != .HEAD { context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil) }
    let isTaken = context.eventLoop.makePromise(of: Void.self)
    let client = NIOLoopBound((context, self), eventLoop: context.eventLoop)
    isTaken.futureResult.whenComplete { _ in
      let (context, handler) = client.value
      if isLast { return context.close(promise: nil) }
      handler.room.places.served(ObjectIdentifier(context.channel))
      handler.beginWaiting(context)
    }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: isTaken)
  }

  /// For the client: that it asks, or takes what it gets.
  private func beginWaiting(_ context: ChannelHandlerContext) {
    deadline?.cancel()
    deadline = context.channel.eventLoop.assumeIsolated().scheduleTask(in: Limits.patience) {
      context.close(promise: nil)
    }
  }
}
