import NIOCore
import NIOHTTP1

/// What a client gets.
struct StatusAnswer: Equatable, Sendable {
  var status: HTTPResponseStatus
  var text: String
  var type = "text/plain; charset=utf-8"
}

/// What is served. All calls come from the one thread that serves the clients, and so must the replies.
protocol StatusPages {
  /// Makes the page, now or later; `reply` is not called if the client leaves before that.
  func ask(_ page: StatusRequest.Page, _ client: ObjectIdentifier, reply: @escaping (StatusAnswer) -> Void)
  func left(_ client: ObjectIdentifier)
}

/// Serves one client: a request, its answer, the next one. On the thread of its channel only.
///
/// States: waiting for a request; asked, while a page is made for it; answering, until the answer is taken; then waiting again, or ending: the
/// connection is closed for writing, and what still comes is read and dropped for a moment, since a connection that is closed over unread
/// bytes is reset, and the answer with it. https://www.rfc-editor.org/rfc/rfc9112#section-9.6
final class StatusClient: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  /// What a client may have.
  enum Limits {
    /// Time for a whole request, and as much for its answer to be taken.
    static let patience = TimeAmount.seconds(30)
    /// The same for the next request: who looks every half minute or minute need not connect each time.
    static let idle = TimeAmount.seconds(90)
    /// Time to end after the last answer.
    static let farewell = TimeAmount.seconds(2)
    /// Bytes of a request's fields, one and all; a browser's are about a kilobyte.
    static let fieldBytes = 8 << 10
    static let headBytes = 16 << 10
    static let fields = 100
    /// Bytes that wait to be parsed.
    static let unparsedBytes = 32 << 10
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

  /// All that stands between a client's socket and `pages`.
  static func handlers(names: HostNames, room: Room, pages: any StatusPages) -> [any ChannelHandler] {
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = Limits.fieldBytes
    limits.maxHeaderListSize = Limits.headBytes
    limits.maxHeaderFieldCount = Limits.fields
    return [
      HTTPResponseEncoder(),
      ByteToMessageHandler(
        HTTPRequestDecoder(limitConfiguration: limits), maximumBufferSize: Limits.unparsedBytes),
      HTTPServerPipelineHandler(),
      StatusClient(names: names, room: room, pages: pages),
    ]
  }

  private let names: HostNames
  private let room: Room
  private let pages: any StatusPages
  private var deadline: Scheduled<Void>?
  /// What the request asks for whose end is being read.
  private var asked: (StatusRequest.Page, HTTPRequestHead)?
  /// Requests whose answers are not taken yet.
  private var unanswered = 0
  /// No request will follow.
  private var inputEnded = false
  /// The last answer is given.
  private var isEnding = false

  private init(names: HostNames, room: Room, pages: any StatusPages) {
    self.names = names
    self.room = room
    self.pages = pages
  }

  func channelActive(context: ChannelHandlerContext) {
    let client = ObjectIdentifier(context.channel)
    room.channels[client] = context.channel
    if let displaced = room.places.arrived(client) { room.channels.removeValue(forKey: displaced)?.close(promise: nil) }
    wait(Limits.patience, context)
  }

  func channelInactive(context: ChannelHandlerContext) {
    deadline?.cancel()
    let client = ObjectIdentifier(context.channel)
    pages.left(client)
    room.places.left(client)
    room.channels[client] = nil
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if isEnding { return }
    switch unwrapInboundIn(data) {
    case .head(let head):
      // It asks on and on and does not take the answers.
      guard context.channel.isWritable else { return context.close(promise: nil) }
      unanswered += 1
      switch StatusRequest(head, names: names) {
      case .page(let page): asked = (page, head)
      // Nothing after it is waited for.
      case .refused(let status, let text): write(StatusAnswer(status: status, text: text), to: head, context)
      }
    case .body: break
    case .end:
      guard let (page, head) = asked else { return }
      asked = nil
      wait(Limits.patience, context)
      pages.ask(page, ObjectIdentifier(context.channel)) { [self] in write($0, to: head, context) }
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed? = event as? ChannelEvent {
      inputEnded = true
      if unanswered == 0 || asked != nil || isEnding { context.close(promise: nil) }
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let error = error as? HTTPParserError, !isEnding else { return context.close(promise: nil) }
    let status: HTTPResponseStatus =
      switch error {
      case .headerOverflow: .requestHeaderFieldsTooLarge
      case .invalidMethod: .notImplemented
      default: .badRequest
      }
    // What asked for it is not known.
    if asked == nil { unanswered += 1 }
    asked = nil
    let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: "")
    write(StatusAnswer(status: status, text: "\(status.reasonPhrase)\n"), to: head, context)
  }

  private func write(_ answer: StatusAnswer, to head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    guard context.channel.isActive else { return }
    let body = context.channel.allocator.buffer(string: answer.text)
    var headers: HTTPHeaders = [
      "Date": HTTPDate.now(), "Content-Type": answer.type, "Content-Length": "\(body.readableBytes)",
      "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
    ]
    if answer.status == .methodNotAllowed { headers.add(name: "Allow", value: "GET, HEAD") }
    // What might be left of a request that was refused is not read; nor is what stands after an offer of another protocol.
    isEnding =
      !head.isKeepAlive || head.headers.contains(name: "upgrade")
      || answer.status.code >= 400 && answer.status != .serviceUnavailable
    if isEnding {
      headers.add(name: "Connection", value: "close")
    } else if head.version.minor == 0 {
      headers.add(name: "Connection", value: "keep-alive")
    }
    context.write(
      wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: answer.status, headers: headers))), promise: nil
    )
    // The answer to HEAD is that to GET without the body. https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2
    if head.method != .HEAD { context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil) }
    let isTaken = context.eventLoop.makePromise(of: Void.self)
    let client = NIOLoopBound((context, self), eventLoop: context.eventLoop)
    isTaken.futureResult.whenComplete { _ in
      let (context, handler) = client.value
      handler.taken(context)
    }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: isTaken)
  }

  /// An answer is on its way to the client.
  private func taken(_ context: ChannelHandlerContext) {
    unanswered -= 1
    if inputEnded, unanswered == 0 { return context.close(promise: nil) }
    if isEnding {
      context.close(mode: .output, promise: nil)
      return wait(Limits.farewell, context)
    }
    room.places.served(ObjectIdentifier(context.channel))
    wait(Limits.idle, context)
  }

  /// For the client: that it asks, takes what it gets, or leaves.
  private func wait(_ time: TimeAmount, _ context: ChannelHandlerContext) {
    deadline?.cancel()
    guard context.channel.isActive else { return }
    deadline = context.channel.eventLoop.assumeIsolated().scheduleTask(in: time) { context.close(promise: nil) }
  }
}
