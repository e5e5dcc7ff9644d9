"""What one would write with aio-pika: takes COUNT messages off QUEUE, builds the same document of each, prints it."""

import asyncio
import os
import sys
import time

import aio_pika

from peer_document import document


async def main():
    queue, count, prefetch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    connection = await aio_pika.connect_robust(os.environ["SOURCE_AMQP_TEST_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=prefetch)
    source = await channel.get_queue(queue)
    seen, start, done = 0, 0.0, asyncio.Event()

    async def received(message):
        nonlocal seen, start
        seen += 1
        if seen == 1:
            start = time.monotonic()
        delivery = {
            "consumer_tag": message.consumer_tag, "delivery_tag": message.delivery_tag,
            "redelivered": message.redelivered, "exchange": message.exchange, "routing_key": message.routing_key}
        sys.stdout.write(document(seen, message.body, message, delivery, queue) + "\n")
        if seen % (prefetch // 2) == 0 or seen == count:
            await message.ack(multiple=True)
        if seen == count:
            done.set()

    await source.consume(received, exclusive=True)
    await done.wait()
    sys.stdout.flush()
    seconds = time.monotonic() - start
    await connection.close()
    print(f'{{"messages": {seen}, "seconds": {seconds:.6f}}}', file=sys.stderr)


asyncio.run(main())
