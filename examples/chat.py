"""A conversation whose answers stream as they are judged: python examples/chat.py [MODEL]"""

import sys

from rain_decoding import Message, RainDecoder

with RainDecoder.from_model(*sys.argv[1:] or ["demo"]) as decoder:
    messages: list[Message] = []
    print("Say something; an empty line ends.")
    while line := input("> "):
        messages.append(Message("user", line))
        stream = decoder.stream(messages, max_tokens=80)
        for commit in stream:
            print(commit.text, end="", flush=True)
        assert stream.completion is not None
        print(f"   [{stream.completion.usage.rewinds} rewinds]")
        messages.append(Message("assistant", stream.completion.text))
