"""What one would write with pika: takes COUNT messages off QUEUE, builds the same document of each, prints it."""

import os
import sys
import time

import pika

from peer_document import document


def main():
    queue, count, prefetch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["SOURCE_AMQP_TEST_URL"]))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=prefetch)
    seen, start = 0, 0.0

    def received(channel, method, properties, body):
        nonlocal seen, start
        seen += 1
        if seen == 1:
            start = time.monotonic()
        delivery = {
            "consumer_tag": method.consumer_tag, "delivery_tag": method.delivery_tag,
            "redelivered": method.redelivered, "exchange": method.exchange, "routing_key": method.routing_key}
        sys.stdout.write(document(seen, body, properties, delivery, queue) + "\n")
        if seen % (prefetch // 2) == 0 or seen == count:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if seen == count:
            channel.stop_consuming()

    channel.basic_consume(queue, received, exclusive=True)
    channel.start_consuming()
    sys.stdout.flush()
    seconds = time.monotonic() - start
    connection.close()
    print(f'{{"messages": {seen}, "seconds": {seconds:.6f}}}', file=sys.stderr)


main()
