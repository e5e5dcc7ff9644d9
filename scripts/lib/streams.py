"""Publishes to a stream by the stream protocol, whose entries may be what AMQP 0-9-1 cannot carry."""

import asyncio
import os

from rstream import AMQPMessage, CompressionType, Producer

# Seconds for the broker's confirms.
PATIENCE = 30


async def _publish(stream, entries):
    environ = os.environ
    confirms = asyncio.Queue()
    async with Producer(
            environ["SOURCE_AMQP_TEST_HOST"], port=int(environ["SOURCE_AMQP_TEST_STREAM_PORT"]),
            username=environ["SOURCE_AMQP_TEST_USER"], password=environ["SOURCE_AMQP_TEST_PASSWORD"]) as producer:
        for kind, bodies in entries:
            contents = [
                body.encode() if body.startswith("raw") else AMQPMessage(body=body.encode()) for body in bodies]
            if kind == "batch":
                await producer.send_batch(stream, contents, on_publish_confirm=confirms.put_nowait)
                expected = len(contents)
            else:
                codec = {"packed": CompressionType.No, "compressed": CompressionType.Gzip}[kind]
                await producer.send_sub_entry(
                    stream, contents, compression_type=codec, on_publish_confirm=confirms.put_nowait)
                expected = 1
            # One after the other, so that each is a chunk of its own.
            for _ in range(expected):
                status = await asyncio.wait_for(confirms.get(), PATIENCE)
                if not status.is_confirmed:
                    raise RuntimeError(f"the broker did not confirm: {status.response_code}")


def publish(stream, entries):
    """Publishes each of `entries`, [kind, bodies], as a chunk of the stream, and waits until the broker has it.

    Kinds: `batch`, an entry for each body; `packed` and `compressed`, all in one entry, which only then is compressed. A body that
    begins with "raw" is written as it is, and is no AMQP message then.
    """
    asyncio.run(_publish(stream, entries))
