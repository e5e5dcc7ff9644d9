/// A limit of the broker's that was hit: of connections or channels, of a user, a virtual host or a node. It passes by itself, for
/// example once the broker has noticed that a former connection is dead.
///
/// RabbitMQ tells it by 530 and a text of its own.
/// https://www.rabbitmq.com/docs/user-limits, https://www.rabbitmq.com/docs/vhosts#limits, https://www.rabbitmq.com/docs/connections#limiting
enum BrokerLimit: Equatable {
  case connectionsOfUser
  case connectionsOfVirtualHost
  case connectionsOfNode
  case channelsOfUser
  case channelsOfNode

  /// Nil if the text of a 530 is about something else.
  init?(_ text: String) {
    if text.contains("user connection limit (") {
      self = .connectionsOfUser
    } else if text.contains("node connection limit (") {
      self = .connectionsOfNode
    } else if text.contains("connection limit (") {
      self = .connectionsOfVirtualHost
    } else if text.contains("number of channels opened for user ") {
      self = .channelsOfUser
    } else if text.contains("number of channels opened on node ") {
      self = .channelsOfNode
    } else {
      return nil
    }
  }

  var isOfChannels: Bool { self == .channelsOfUser || self == .channelsOfNode }

  /// Which limit it is, and how it passes.
  var advice: String {
    let passes = "; a connection of a host that died counts until two heartbeats have passed"
    return switch self {
    case .connectionsOfUser:
      "The user has as many connections as it may: end one, or raise max-connections (rabbitmqctl set_user_limits)\(passes)"
    case .connectionsOfVirtualHost:
      "The virtual host has as many connections as it may: end one, or raise max-connections (rabbitmqctl set_vhost_limits)\(passes)"
    case .connectionsOfNode:
      "The node has as many connections as it may: end one, raise connection_max in rabbitmq.conf, or name further nodes in hosts\(passes)"
    case .channelsOfUser:
      "The user has as many channels as it may: end one, or raise max-channels (rabbitmqctl set_user_limits). The connector does "
        + "with one, and asks for a queue on a second where it may"
    case .channelsOfNode:
      "The node has as many channels as it may: end one, or raise channel_max_per_node in rabbitmq.conf"
    }
  }
}
