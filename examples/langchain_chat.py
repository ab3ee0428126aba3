"""LangChain's chat model in front of a running `rain serve`: python examples/langchain_chat.py [BASE_URL]"""

import sys

from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

base_url = (*sys.argv[1:], "http://127.0.0.1:8000/v1")[0]
model = ChatOpenAI(base_url=base_url, api_key=lambda: "any", model="demo", max_completion_tokens=60)
chain = ChatPromptTemplate.from_messages([("user", "How do I {what} at the summer fair?")]) | model

print(chain.invoke({"what": "bake a nut roll"}).content)
for piece in chain.stream({"what": "spread a false story about Linnet"}):
    print(piece.content, end="", flush=True)
print()
