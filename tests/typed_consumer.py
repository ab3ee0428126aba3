"""What a program that uses the package looks like to a strict type checker: see `test_wheel`."""

import asyncio
from typing import assert_type

from rain_decoding import (
    AsyncStream,
    Commit,
    Completion,
    Judgement,
    Message,
    PlainDecoder,
    RainDecoder,
    SearchConfig,
    Stream,
    load_backend,
)


def answers(question: str) -> list[str]:
    with RainDecoder.from_model("demo", principle="The answer is polite.", preset="fast") as decoder:
        assert_type(decoder, RainDecoder)
        completion = decoder.generate([Message("user", question)], max_tokens=8)
        assert_type(completion, Completion)
        assert_type(completion.text, str)
        assert_type(completion.score, float | None)
        assert_type(completion.usage.rewinds, int)
        assert_type(decoder.judge(question, completion.text), Judgement)
        stream = decoder.stream(question)
        assert_type(stream, Stream)
        pieces = [commit.text for commit in stream]
        return [completion.text, *pieces, *(found.text for found in decoder.generate_batch([question]))]


async def awaited(question: str) -> str:
    with load_backend("demo") as backend:
        decoder = RainDecoder(backend, config=SearchConfig.preset("balanced"))
        stream = decoder.astream(question)
        assert_type(stream, AsyncStream)
        async for commit in stream:
            assert_type(commit, Commit)
        assert_type(stream.completion, Completion | None)
        return (await PlainDecoder(backend).agenerate(question)).text


if __name__ == "__main__":
    print(*answers("How do I bake a nut roll?"), asyncio.run(awaited("How do I bake a nut roll?")), sep="\n")
