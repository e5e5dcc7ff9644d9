// The AMQP module: a consumer's half of AMQP 0-9-1, as RabbitMQ speaks it.
//
// Duty: open one connection with one channel (and another one to ask for the queue), make the topology that a capture
// needs, receive deliveries as bytes, acknowledge them, and notice every way in which a broker can stop talking. It knows
// neither SQLite nor Flow.
//
// How it divides the work with rabbitmq-c: the library is the codec of our methods and their argument tables, and of the
// broker's methods without tables (`amqp_encode_method`, `amqp_decode_method`), and nothing else. The socket, the frames,
// the heartbeats and the deliveries are ours, because only so
//   - can no send block for ever (the library's sends do once the broker stops reading),
//   - can no header crash the process (the library decodes nested tables by recursion without a limit),
//   - do frames larger than the negotiated limit pass (a broker sends them after dead-lettering a message with a
//     large header), and keys of no length (which the library refuses),
//   - do errors keep their errno, and name look-ups their time limit,
//   - is a body copied once, from the socket's buffer into the batch that the journal reads.
//
// Invariants
//   - A `Connection` belongs to one thread; only a `Wakeup` may be used from others.
//   - A delivery enters a batch whole or not at all; a batch never holds deliveries of two channels.
//   - No call blocks past its deadline. Name resolution is the one exception of the C library; it runs on a thread of
//     its own and is abandoned when it is late.
//   - Every byte from the broker is checked before it is believed; what does not fit becomes an `AMQPError`: tags that do
//     not count the deliveries, content of another consumer or channel, a flood, a body that no broker takes.
//   - No frame limit is agreed to that the buffer does not hold, and what was agreed to is taken.
//   - After an error the connection is over: the caller drops it and opens another.
//
// Sources: AMQP 0-9-1 specification and its errata, https://www.rabbitmq.com/amqp-0-9-1-reference.html and
// https://www.rabbitmq.com/amqp-0-9-1-errata.html.
