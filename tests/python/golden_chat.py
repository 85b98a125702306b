"""Writes tests/data/chat.json: what transformers makes of chats with chat templates.

    python tests/python/golden_chat.py [TEMPLATES] > tests/data/chat.json

TEMPLATES is a folder of `.jinja` files, all of which are taken: trl's `chat_templates` (1.16.0, Apache-2.0), of which `qwen2_5` and `qwen3`, the
templates of Qwen2.5 and Qwen3 (Apache-2.0), are in the file that is checked in. The others are written here, in the formats and with the
constructs of the models they are named after.
Each case: messages, add_generation_prompt, variables; the text, or null and what the template refuses with.
"""

import json
import sys
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from tokenizers import Tokenizer, models

OWN = {
    # A blank line after each header, texts trimmed, BOS before the first.
    "like Llama-3": "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}\n"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    # A date that can be given, a system message that is always there, a list with its head cut off.
    "like Llama-3.2": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") if strftime_now is defined else "26 Jul 2024" %}
{%- endif %}
{%- if tools is not none %}
    {{- raise_exception("no tools here") }}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    # A default system message, and line breaks that belong to the text.
    "like SmolLM2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    # Roles in turn or a refusal, Python's methods, marks of what is generated.
    "like Mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"].strip() + '\\n\\n' %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('the roles must take turns: user, assistant, user') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + (system_message if loop.first else '') + message.content.rstrip() + ' [/INST]' }}
    {%- else %}
        {% generation %}{{- ' ' + message.content.split('</think>')[-1].lstrip('\\n') + eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
""",
    # Indented blocks that take their line with them, a macro, a namespace, breaking out of a loop, backwards.
    "made up": """{% macro shout(text, mark='!') %}
  {{ text | upper }}{{ mark }}
{% endmacro %}
{% set ns = namespace(last=-1, seen=[]) %}
{% for message in messages[::-1] %}
    {% if message.role == "user" and message.content is string and not message.content.startswith('#') %}
        {% set ns.last = messages | length - 1 - loop.index0 %}
        {% break %}
    {% endif %}
{% endfor %}
last {{ ns.last }}
{# a comment
   of two lines #}
{% for message in messages if message.role != 'system' %}
    {% if message.content | length > 40 %}{% continue %}{% endif %}
    {{ loop.index }}: {{ shout(message.content | trim, mark=('?' if loop.last else '!')) }}
    {{ message.get('name', 'nobody') }} {{ message.content.endswith('?') }} {{ message.content[:3] }} {{ message['content'] | replace('a', 'A') }}
{% else %}
nobody said anything
{% endfor %}
{% if tools is iterable and tools | length > 0 %}tools{% endif %}
{{ messages is iterable }} {{ 'text' is iterable }} {{ 3 is iterable }} {{ messages[0] is mapping }} {{ messages is sequence }}
{{ missing is defined }} {{ unk_token is defined }} {{ bos_token ~ eos_token }} {{ 7 // 2 }} {{ [1, 2] | join('-') }}
{% if add_generation_prompt %}
reply:
{% endif %}
""",
}

USER = [{"role": "user", "content": " What is 2 + 2?\n"}]
SYSTEM = [{"role": "system", "content": "Answer briefly. "}]
TURNS = USER + [{"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\nIt is 4. "}, {"role": "user", "content": "# And 3 + 3? Ça va, 日本 <b> \"q\" 'r'"}]
LONG = [{"role": "user", "content": "a long question that is passed over by some templates, and {{ not }} a template"}]


def main():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    templates = dict(OWN)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for path in sorted(folder.glob("*.jinja")) if folder else []:
        templates[path.stem] = path.read_text()
    written = []
    for name, template in templates.items():
        cases = []
        for messages in [USER, SYSTEM + USER, TURNS, SYSTEM + TURNS, LONG + USER, SYSTEM]:
            for prompt, variables in [(True, {}), (False, {"date_string": "1 May 2025"}), (True, {"enable_thinking": False, "date_string": "x"})]:
                if "strftime_now" in template and "date_string" not in variables:
                    continue
                case = {"messages": messages, "add_generation_prompt": prompt, "variables": variables}
                try:
                    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=prompt, **variables)
                    cases.append(case | {"text": text, "refusal": ""})
                except Exception as error:
                    cases.append(case | {"text": None, "refusal": str(error) if "turns" in str(error) else ""})
        written.append({"name": name, "template": template, "cases": cases})
    json.dump(written, sys.stdout, indent=1, ensure_ascii=False)
    print()


main()
