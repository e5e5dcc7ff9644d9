/// The words of RabbitMQ, its clients and other tools for what is a setting here, so that an error names the setting.
///
/// From pika, amqplib, Spring, Celery, Vector `amqp`, Redpanda Connect `amqp_0_9`, Telegraf `amqp_consumer`, Logstash `rabbitmq`, NiFi
/// and `amqp://` addresses (https://www.rabbitmq.com/docs/uri-spec, https://www.rabbitmq.com/docs/uri-query-parameters).
enum ForeignWords {
  /// What to say of an unknown key: the setting's path, or, after a colon, what to do.
  ///
  /// - Parameters:
  ///   - key: As written.
  ///   - group: The path of the group that it stands in, without indices; empty at the root.
  static func advice(for key: String, in group: String) -> Advice? {
    let folded = String(decoding: EditDistance.folded(key), as: UTF8.self)
    if group == "queue", folded.hasPrefix("x_") { return .say("put it into queue.arguments") }
    if group == "consumer", folded.hasPrefix("x_") { return .say("put it into consumer.arguments") }
    if let own = words[group]?[folded] { return own }
    return words[""]?[folded]
  }

  enum Advice: Equatable, ExpressibleByStringLiteral {
    /// The setting that is meant.
    case setting(String)
    /// A clause without a final period.
    case say(String)

    init(stringLiteral value: String) { self = .setting(value) }
  }

  private static let address = Advice.say(
    "give its parts by themselves: host, port, virtual_host, username, password, and tls.enabled for amqps")
  private static let unneeded = Advice.say("leave it out: the capture chooses it by itself")
  private static let severalQueues = Advice.say(
    "each queue is a resource: that of a binding in Flow, an entry of resources for `source-amqp run`")
  private static let deadLetter = Advice.say("set queue.arguments.x-dead-letter-exchange")

  /// By group, and then by key in lower case with underscores. Those of the root hold in every group.
  private static let words: [String: [String: Advice]] = [
    "": [
      "vhost": "virtual_host", "v_host": "virtual_host", "virtualhost": "virtual_host",
      "hostname": "host", "server": "host", "broker": "host", "address": address, "hosts_list": "hosts",
      "url": address, "uri": address, "urls": address, "uris": address, "addresses": address, "brokers": "hosts",
      "connection_string": address, "amqp_url": address, "dsn": address, "endpoint": address, "nodes": "hosts",
      "user": "username", "user_name": "username", "login": "username", "userid": "username", "user_id": "username",
      "pass": "password", "passwd": "password", "secret": "password", "token": "password",
      "auth": "auth_type", "auth_mechanism": "auth_type", "mechanism": "auth_type", "sasl_mechanism": "auth_type",
      "ssl": "tls.enabled", "use_ssl": "tls.enabled", "use_tls": "tls.enabled", "amqps": "tls.enabled",
      "ssl_options": "tls", "ssl_enabled": "tls.enabled",
      "ca": "tls.ca_cert", "ca_file": "tls.ca_cert", "cafile": "tls.ca_cert", "cacert": "tls.ca_cert",
      "cacertfile": "tls.ca_cert", "root_ca": "tls.ca_cert", "tls_ca": "tls.ca_cert", "ssl_ca": "tls.ca_cert",
      "cert": "tls.client_cert", "certfile": "tls.client_cert", "cert_file": "tls.client_cert",
      "crt": "tls.client_cert",
      "certificate": "tls.client_cert", "tls_cert": "tls.client_cert", "ssl_cert": "tls.client_cert",
      "keyfile": "tls.client_key", "key_file": "tls.client_key", "private_key": "tls.client_key",
      "tls_key": "tls.client_key", "ssl_key": "tls.client_key",
      "verify": "tls.verify_cert", "verify_peer": "tls.verify_cert", "skip_verify": "tls.verify_cert",
      "insecure": "tls.verify_cert", "insecure_skip_verify": "tls.verify_cert", "verify_certificate": "tls.verify_cert",
      "verify_hostname": "tls.verify_cert", "sni": "tls.server_name", "server_name_indication": "tls.server_name",
      "queue_name": "queue.name", "queues": severalQueues, "resources": severalQueues, "resource": severalQueues,
      "ressources": severalQueues, "subscriptions": severalQueues, "streams": severalQueues, "topic": "queue.name",
      "queue_type": "queue.type", "queue_durable": "queue.durable", "passive": .say("set queue.declare: passive"),
      "queue_arguments": "queue.arguments", "queue_declare": "queue.declare",
      "exchange": "bindings[].exchange", "exchange_name": "bindings[].exchange", "exchanges": "bindings[].exchange",
      "exchange_type": .say("leave it out: the capture binds to exchanges that exist, and declares none"),
      "exchange_durability": .say("leave it out: the capture binds to exchanges that exist, and declares none"),
      "binding_key": "bindings[].routing_key", "routing_keys": "bindings[].routing_key", "binding": "bindings",
      "prefetch": "consumer.prefetch_count", "prefetchcount": "consumer.prefetch_count",
      "qos": "consumer.prefetch_count",
      "basic_qos": "consumer.prefetch_count", "max_undelivered_messages": "consumer.prefetch_count",
      "auto_ack": "consumer.no_ack", "autoack": "consumer.no_ack", "noack": "consumer.no_ack",
      "ack": "journal.acknowledge", "acks": "journal.acknowledge", "acknowledgement": "journal.acknowledge",
      "acknowledgements": "journal.acknowledge", "ack_mode": "journal.acknowledge",
      "consumer_tag": unneeded, "tag": unneeded, "consumer_name": unneeded, "connection_name": unneeded,
      "channel_max": unneeded, "frame_max": unneeded, "requeue": unneeded,
      "ttl": "message_ttl", "priority_levels": "max_priority",
      "heartbeat_interval": "heartbeat", "heartbeat_seconds": "heartbeat", "heartbeats": "heartbeat",
      "heartbeat_timeout": "heartbeat", "timeout": "connection_timeout", "connect_timeout": "connection_timeout",
      "connection_attempts": "max_reconnect_attempts", "max_retries": "max_reconnect_attempts",
      "retries": "max_reconnect_attempts", "retry_delay": "reconnect_delay",
      "connect_retry_interval": "reconnect_delay",
      "dead_letter_exchange": deadLetter, "dlx": deadLetter, "dead_letter_queue": deadLetter,
      "stream": "queue.name", "offset": "consumer.stream_offset", "from_offset": "consumer.stream_offset",
      "advanced": .say("leave it out: what is in it stands one level higher"),
      "buffer": "journal", "journal_path": "journal.path", "buffer_path": "journal.path",
      "max_size": "journal.max_bytes",
      "codec": "document.body", "decoding": "document.body", "format": "document.body", "data_format": "document.body",
    ],
    "tls": ["key": "tls.client_key", "enable": "tls.enabled", "on": "tls.enabled"],
    "queue": [
      "queue": "queue.name", "max_length": .say("set queue.arguments.x-max-length"), "args": "queue.arguments",
    ],
    "bindings[]": ["key": "bindings[].routing_key", "name": "bindings[].exchange", "args": "bindings[].arguments"],
    "consumer": ["ack": "consumer.no_ack", "count": "consumer.prefetch_count", "args": "consumer.arguments"],
    "journal": ["file": "journal.path", "size": "journal.max_bytes", "directory": "journal.path"],
    "document": ["size": "document.max_bytes"],
  ]
}
