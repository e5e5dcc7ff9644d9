/// The rows themselves, in the order of the form.
extension SettingsTable {
  /// The whole endpoint configuration as a group without a key.
  static let root = SettingGroup(
    key: "", title: "RabbitMQ",
    description: "Captures the messages of a queue from RabbitMQ or another AMQP 0-9-1 broker. Captured messages are "
      + "acknowledged, so the queue gives them to no one else; only a stream keeps them.",
    members: connection + [.group(queue), .group(bindings), .group(consumer), .group(tls)] + limits
      + [.group(journal), .group(document)])

  private static let connection: [SettingNode] = [
    row(
      "host", "Host", .text(.host), .value(.string("localhost")),
      "The name or address (IPv4 or IPv6) of the broker that you capture from.", example: .string("mq.acme.example")),
    row(
      "hosts", "Hosts",
      .texts(.node, item: .init(title: "Node", description: "A node: name, name:port, or [address]:port.")), .absent,
      "Further nodes of the same cluster: `name`, `name:port` or `[address]:port`. At each attempt you try them and the "
        + "host in random order, until one answers.", example: .array([.string("mq2.acme.example")])),
    row(
      "port", "Port", .integer(1...65535), .derived("5672; 5671 if `tls.enabled`"),
      "The broker's AMQP port. Leave it out for 5672, or 5671 if you enable TLS.", example: .number("5671")),
    row(
      "virtual_host", "Virtual Host", .text(.name), .value(.string("/")),
      "The virtual host that your queue is in, taken literally.", example: .string("shop")),
    row(
      "username", "Username", .text(.shortString), .value(.string("guest")), "The user that you log in as.",
      example: .string("flow")),
    row(
      "password", "Password", .text(.password), .value(.string("guest")),
      "The password of the user that you log in as.", secret: true, example: .string("${env:AMQP_PASSWORD}")),
    row(
      "auth_type", "Authentication",
      .choice([
        Choice(value: "plain", title: "PLAIN", description: "You log in with the user name and password."),
        Choice(
          value: "amqplain", title: "AMQPLAIN",
          description: "You log in with the user name and password in RabbitMQ's older form."),
        Choice(
          value: "external", title: "EXTERNAL",
          description: "You log in with your client certificate; the broker needs its plugin for that."),
      ]), .value(.string("plain")),
      "How you log in. For external you must enable TLS and give a client certificate and its key."),
  ]

  private static let tls = SettingGroup(
    key: "tls", title: "TLS", description: "How you encrypt the connection and verify the broker.",
    members: [
      row(
        "enabled", "Enabled", .boolean, .value(.bool(false)), "Whether you connect with TLS, in version 1.2 or newer."),
      row(
        "verify_cert", "Verify Certificate", .boolean, .value(.bool(true)),
        "Whether you verify the broker's certificate chain and host name. Turn it off only for tests."),
      row(
        "ca_cert", "CA Certificate", .text(.pem), .derived("the system's store"),
        "The certificate authorities that you trust: a file path, or PEM text.", multiline: true,
        example: .string("/etc/source-amqp/ca.pem")),
      row(
        "client_cert", "Client Certificate", .text(.pem), .absent,
        "The certificate that you show to the broker: a file path, or PEM text (a chain is allowed). Give its key too.",
        multiline: true, example: .string("/etc/source-amqp/client.pem")),
      row(
        "client_key", "Client Key", .text(.pem), .absent,
        "The private key of your client certificate: a file path, or PEM text.", secret: true, multiline: true,
        example: .string("/etc/source-amqp/client.key")),
      row(
        "server_name", "Server Name", .text(.serverName), .derived("`host`"),
        "The name that you expect in the broker's certificate and send as SNI, if it is not the host. "
          + "Of hosts, each is expected to have its own name, or all of them this one.",
        example: .string("rabbitmq.internal")),
    ])

  private static let queue = SettingGroup(
    key: "queue", title: "Queue",
    description: "The queue that you capture, and how you want it declared. Capturing takes its messages away.",
    members: [
      row(
        "name", "Name", .text(.name), .absent,
        "The name of the queue that you capture. Leave it out if each resource names a queue of its own.",
        example: .string("orders")),
      row(
        "type", "Type",
        .choice([
          Choice(value: "classic", title: "Classic", description: "The queue is kept by one node."),
          Choice(value: "quorum", title: "Quorum", description: "The queue is replicated."),
          Choice(value: "stream", title: "Stream", description: "The queue keeps its messages, and you read them."),
        ]), .absent, "The type of the queue, sent as x-queue-type. Leave it out for the broker's default.",
        example: .string("quorum")),
      row(
        "single_active_consumer", "Single Active Consumer", .boolean, .value(.bool(false)),
        "Whether the queue that you declare serves one consumer at a time, sent as x-single-active-consumer."),
      row(
        "durable", "Durable", .boolean, .value(.bool(true)),
        "Whether the queue that you declare survives a restart of the broker."),
      row(
        "exclusive", "Temporary Queue, Deleted on Disconnect", .boolean, .value(.bool(false)),
        "Whether only your connection may use the queue that you declare; it is deleted, with its messages, when the connection closes."
      ),
      row(
        "auto_delete", "Delete After Last Consumer", .boolean, .value(.bool(false)),
        "Whether the queue that you declare is deleted once its last consumer is gone."),
      row(
        "arguments", "Arguments", .table, .absent,
        "Further arguments that you declare the queue with, such as x-max-length. JSON types are kept.",
        example: .object(JSONObject(members: [.init(key: "x-max-length", value: .number("1000000"))]))),
      row(
        "declare", "Declare",
        .choice([
          Choice(
            value: "active", title: "Active", description: "You create the queue if it is missing, and bind it."),
          Choice(value: "passive", title: "Passive", description: "You only check that the queue is there."),
          Choice(value: "none", title: "None", description: "You consume without declaring or checking the queue."),
        ]), .value(.string("active")),
        "Whether you declare the queue, only check that it is there, or just consume."),
    ])

  private static let bindings = SettingGroup(
    key: "bindings", title: "Bindings",
    description: "The exchanges that you bind the queue to. They must exist; the connector never declares an exchange.",
    item: .init(title: "Binding", description: "A binding of your queue to an existing exchange."),
    members: [
      row(
        "exchange", "Exchange", .text(.name), .required, "The existing exchange that you bind the queue to.",
        example: .string("amq.topic")),
      row(
        "routing_key", "Routing Key", .text(.routingKey), .value(.string("#")),
        "The routing key that you bind with: literal for a direct exchange, a pattern for a topic exchange.",
        example: .string("orders.#")),
      row(
        "arguments", "Arguments", .table, .absent,
        "The arguments that you bind with, such as x-match and the headers for a headers exchange.",
        example: .object(JSONObject(members: [.init(key: "x-match", value: .string("all"))]))),
    ])

  private static let consumer = SettingGroup(
    key: "consumer", title: "Consumer", description: "How you consume from the queue.",
    members: [
      row(
        "prefetch_count", "Prefetch Count", .integer(0...65535), .value(.number("100")),
        "How many messages the broker sends you ahead of your acknowledgements. "
          + "0 means no limit, and then messages are captured at least once only.", example: .number("1000")),
      row(
        "no_ack", "No Acknowledgement", .boolean, .value(.bool(false)),
        "Whether the broker forgets messages as it sends them. You lose those in flight when the connection breaks."),
      row(
        "exclusive", "Refuse Other Consumers", .boolean, .value(.bool(false)),
        "Whether you refuse any other consumer on the queue. With it a classic queue can be captured once and in order."
      ),
      row(
        "priority", "Priority", .integer(0...255), .absent,
        "The priority of your consumer among others, sent as x-priority.", example: .number("10")),
      row(
        "stream_offset", "Stream Offset", .streamOffset, .derived("`first`"),
        "Where you begin to read a stream that you have not captured yet; from then on you go on after what you have.",
        example: .string("24h")),
      row(
        "arguments", "Arguments", .table, .absent, "Further arguments that you consume with. JSON types are kept.",
        example: .object(JSONObject(members: [.init(key: "x-stream-filter", value: .string("orders"))]))),
      row(
        "deduplicate", "Deduplicate",
        .choice([
          Choice(
            value: "auto", title: "Auto", description: "You drop redelivered messages whenever that is certain."),
          Choice(value: "assert", title: "Assert", description: "You promise that this is the queue's only consumer."),
          Choice(value: "off", title: "Off", description: "You capture every delivery, redelivered ones too."),
        ]), .value(.string("auto")),
        "Whether you drop messages that the broker delivers again although they were captured."),
      row(
        "deduplicate_by", "Deduplicate By",
        .choice([
          Choice(value: "position", title: "Position", description: "You rely on the order of the queue."),
          Choice(
            value: "message_id", title: "Message ID",
            description: "You rely on message ids, which your publishers must make unique."),
        ]), .value(.string("position")), "What you recognise redelivered messages by."),
      row(
        "undeliverable", "Undeliverable",
        .choice([
          Choice(
            value: "wait", title: "Wait",
            description: "You try again from time to time, and report what stands in the way."),
          Choice(value: "skip", title: "Skip", description: "You go past it, with a warning."),
        ]), .value(.string("wait")),
        "What you do at an offset of a stream that the broker cannot send over AMQP 0-9-1."),
    ])

  private static let limits: [SettingNode] = [
    row(
      // RabbitMQ refuses more than `?MAX_EXPIRY_TIMER`, 2^32 - 1. https://www.rabbitmq.com/docs/ttl
      "message_ttl", "Message TTL", .integer(0...4_294_967_295), .absent,
      "How many milliseconds a message may wait in the queue that you declare, sent as x-message-ttl.",
      unit: .milliseconds, example: .number("86400000")),
    row(
      "max_priority", "Maximum Priority", .integer(0...255), .absent,
      "The highest message priority of the queue that you declare, sent as x-max-priority.", example: .number("9")),
    row(
      "heartbeat", "Heartbeat", .integer(0...65535), .value(.number("60")),
      "How many seconds apart you want heartbeats; the lower of your and the broker's wish counts. 0 asks for none.",
      unit: .seconds, example: .number("30")),
    row(
      "connection_timeout", "Connection Timeout", .number(0.1...3600), .value(.number("30.0")),
      "How many seconds you allow for connecting (TCP, TLS and AMQP together), and for every later call.",
      unit: .seconds, example: .number("10")),
    row(
      "reconnect_delay", "Reconnect Delay", .number(0...86400), .value(.number("5.0")),
      "How many seconds you wait between attempts to connect, varied by 10 percent.", unit: .seconds,
      example: .number("1")),
    row(
      "max_reconnect_attempts", "Maximum Reconnect Attempts", .integer(-1...2_147_483_647), .value(.number("-1")),
      "How many failed attempts in a row you allow before the capture fails. -1 never gives up.",
      example: .number("100")),
  ]

  private static let journal = SettingGroup(
    key: "journal", title: "Journal", description: "Where messages are kept until they are committed downstream.",
    advanced: true,
    members: [
      row(
        "path", "Path", .text(.path),
        .derived("`DIR/journal.db` with `run --output DIR`, else a private temporary file"),
        "The journal's file, on a disk that outlives the process. Leave it out in a container without a volume.",
        example: .string("/var/lib/source-amqp/journal.db")),
      row(
        "acknowledge", "Acknowledge",
        .choice([
          Choice(
            value: "journaled", title: "Journaled",
            description: "You acknowledge a message once the journal has it on stable storage."),
          Choice(
            value: "committed", title: "Committed",
            description: "You acknowledge a message once its document is committed downstream."),
        ]), .derived("`journaled` if `journal.path` is given and Flow runs no container, else `committed`"),
        "When you acknowledge messages to the broker. Leave it out for the safe choice. In a container, choose journaled only "
          + "if the journal's path is on a volume.", example: .string("committed")),
      row(
        "max_bytes", "Maximum Size", .integer((16 << 20)...(1 << 50)), .value(.number("1073741824")),
        "How many bytes the journal may take. There you stop consuming, and nothing is acknowledged or dropped. "
          + "Of several queues one that floods waits alone before that: the others keep their shares.",
        unit: .bytes,
        example: .number("4294967296")),
    ])

  private static let document = SettingGroup(
    key: "document", title: "Document", description: "How messages become documents.", advanced: true,
    members: [
      row(
        "body", "Body",
        .choice([
          Choice(
            value: "auto", title: "Auto", description: "You get parsed JSON, a string, or base64, by what the body is."),
          Choice(
            value: "text", title: "Text",
            description: "You always get a string: the text, or base64 of what is no text."),
          Choice(value: "base64", title: "Base64", description: "You always get base64."),
        ]), .value(.string("auto")), "What you get as body."),
      row(
        "body_raw", "Raw Body",
        .choice([
          Choice(value: "always", title: "Always", description: "You get body_raw in every document."),
          Choice(
            value: "unparsed", title: "Unparsed", description: "You get body_raw only if body is not parsed JSON."),
          Choice(value: "never", title: "Never", description: "You get no body_raw."),
        ]), .value(.string("always")), "Whether you want the message's text beside its parsed form."),
      row(
        // The runtime takes messages of 64 MiB, envelope included.
        "max_bytes", "Maximum Size", .integer(DocumentSettings.minimumMaxBytes...(63 << 20)),
        .value(.number("16777216")),
        "How many bytes your largest document may have. If only body_raw makes it larger, that is left out.",
        unit: .bytes,
        example: .number("4194304")),
      row(
        "oversize", "Oversize",
        .choice([
          Choice(value: "fail", title: "Fail", description: "You stop the capture with an error."),
          Choice(
            value: "reject", title: "Reject",
            description:
              "You reject the message without requeue, so that a dead-letter exchange gets it; in a stream, which has none, you go past it."
          ),
          Choice(value: "truncate", title: "Truncate", description: "You capture the message with a shortened body."),
        ]), .value(.string("fail")), "What you do with a message whose document would be larger."),
    ])

  private static func row(
    _ key: String, _ title: String, _ kind: SettingKind, _ presence: Setting.Presence, _ description: String,
    secret: Bool = false, multiline: Bool = false, unit: Setting.Unit? = nil, example: JSONValue? = nil
  ) -> SettingNode {
    .setting(
      Setting(
        key: key, title: title, description: description, kind: kind, presence: presence, secret: secret,
        multiline: multiline, unit: unit, given: example))
  }
}
