/// The JSON schema of documents, as it is offered at discovery.
///
/// It is the collection's write schema, and a document that violates it fails the capture; so it says only what always
/// holds, and `x-infer-schema` lets the runtime derive the rest from the data. The key fields are scalars and required.
enum DocumentSchema {
  /// The collection's key, as JSON pointers.
  static let key = ["/session_id", "/sequence"]

  static let text = #"""
    {
      "$schema": "https://json-schema.org/draft/2019-09/schema",
      "title": "RabbitMQ message",
      "description": "One message of an AMQP 0-9-1 queue.",
      "type": "object",
      "required": ["session_id", "sequence"],
      "x-infer-schema": true,
      "properties": {
        "received_at": {
          "type": "string", "format": "date-time",
          "description": "When the message arrived, in UTC."
        },
        "body": {
          "description": "The body: parsed if it is a JSON object or array, otherwise text, or base64 of other bytes. 'document.body' can fix the form."
        },
        "body_truncated": {
          "type": "boolean",
          "description": "True if the body was too large for a document and 'body' holds only its beginning."
        },
        "body_raw": {
          "type": "string",
          "description": "The body's text, or base64 of what is no text. Absent if only it would make the document too large, or if 'document.body_raw' says so."
        },
        "body_encoding": {
          "type": "string",
          "description": "'base64' if 'body' and 'body_raw' are base64, otherwise absent."
        },
        "body_size": {
          "type": "integer",
          "description": "Size of the body in bytes, as it was received."
        },
        "properties": {
          "type": "object",
          "description": "Properties of the message, without those that it lacks. A string that is not UTF-8, or has a NUL, is its base64, and '_base64' lists its name.",
          "properties": {
            "content_type": {"type": "string", "description": "MIME type of the body."},
            "content_encoding": {"type": "string", "description": "MIME content encoding of the body; gzip and deflate were undone unless 'body' is base64 of such data."},
            "headers": {"type": "object", "description": "Headers by name, as typed JSON."},
            "delivery_mode": {"type": "integer", "description": "2 for persistent messages, 1 for transient ones."},
            "priority": {"type": "integer", "description": "Priority of the message."},
            "correlation_id": {"type": "string", "description": "Identifier that correlates the message with another."},
            "reply_to": {"type": "string", "description": "Address for replies, usually a queue's name."},
            "expiration": {"type": "string", "description": "Time to live in milliseconds, as text."},
            "message_id": {"type": "string", "description": "Identifier that the publisher gave to the message."},
            "timestamp": {"type": "string", "format": "date-time", "description": "The publisher's timestamp."},
            "timestamp_raw": {"type": "integer", "description": "The timestamp as sent, if it is not in seconds."},
            "type": {"type": "string", "description": "The publisher's name for the kind of message."},
            "user_id": {"type": "string", "description": "The publishing user, validated by the broker."},
            "app_id": {"type": "string", "description": "The publishing application."},
            "cluster_id": {"type": "string", "description": "Deprecated property of the protocol."},
            "_base64": {"type": "array", "items": {"type": "string"}, "description": "Names of the properties above that are base64, since they are no text."}
          }
        },
        "delivery": {
          "type": "object",
          "description": "How the broker delivered the message.",
          "properties": {
            "consumer_tag": {"type": "string", "description": "The consumer that received it."},
            "delivery_tag": {"type": "integer", "description": "Number of the delivery on its channel."},
            "redelivered": {"type": "boolean", "description": "True if the broker may have delivered it before."},
            "exchange": {"type": "string", "description": "The exchange it was published to, empty for the default one."},
            "routing_key": {"type": "string", "description": "The routing key it was published with."},
            "_base64": {"type": "array", "items": {"type": "string"}, "description": "Which of exchange and routing_key is base64, since it is no text."}
          }
        },
        "queue": {"type": "string", "description": "The queue it was consumed from."},
        "virtual_host": {"type": "string", "description": "The virtual host of the queue."},
        "sequence": {
          "type": "integer",
          "description": "Number of the message in its session: 1, 2, 3 … without gaps."
        },
        "session_id": {
          "type": "string",
          "description": "UUID of the connector's start in which the message arrived."
        }
      }
    }
    """#
}

extension DocumentSchema {
  /// The schema as a value. The text is a constant of ours, so that it does not parse is a broken build.
  static let value: JSONValue = {
    guard let value = try? JSONValue.parse(text) else { fatalError("the document schema is not JSON") }
    return value
  }()
}
