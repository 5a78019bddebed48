"""The reference of the HTTP API as Markdown, from its OpenAPI document.

Made while the site is built, so it cannot fall behind the code.
"""

from collections.abc import Iterator
from typing import Any

from producer.api.app import describe

_METHODS = ("get", "post", "put", "patch", "delete")
_HEAD = """# HTTP reference

Made from the server's own description, `GET /openapi.json`; [HTTP API](api.md) says how to use it.
"""


def http_reference() -> str:
    """The page."""
    description = describe()
    schemas = description["components"]["schemas"]
    parts = [_HEAD]
    for path, operations in description["paths"].items():
        for method in _METHODS:
            if method in operations:
                parts.extend(_operation(method, path, operations[method]))
    parts.append("## Shapes\n")
    for name in sorted(schemas):
        parts.extend(_shape(name, schemas[name]))
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"## `{method.upper()} {path}`\n"
    if text := operation.get("description") or operation.get("summary"):
        yield f"{text}\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | |\n|---|---|---|---|"
        for each in parameters:
            mark = " (required)" if each.get("required") else ""
            about = _cell(each.get("description", ""))
            yield f"| `{each['name']}`{mark} | {each['in']} | {_type(each['schema'])} | {about} |"
        yield ""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"Body: {_type(content.get('schema', {}))}, as `{kind}`.\n"
    yield "| answer | body | |\n|---|---|---|"
    for status, answer in operation["responses"].items():
        bodies = [_type(each.get("schema", {})) for each in answer.get("content", {}).values()]
        yield f"| {status} | {', '.join(bodies)} | {_cell(answer.get('description', ''))} |"
    yield ""


def _shape(name: str, schema: dict[str, Any]) -> Iterator[str]:
    # Named as the links of `_type` say, whatever a slug would be.
    yield f"### {name} {{: #shape-{name.lower()} }}\n"
    if text := schema.get("description"):
        yield f"{text}\n"
    fields = schema.get("properties", {})
    if not fields:
        yield f"{_type(schema)}\n"
        return
    required = set(schema.get("required", ()))
    yield "| field | type | |\n|---|---|---|"
    for field, of in fields.items():
        mark = " (required)" if field in required else ""
        yield f"| `{field}`{mark} | {_type(of)} | {_cell(_about(of))} |"
    yield ""


def _about(schema: dict[str, Any]) -> str:
    said = [schema.get("description", "")]
    if schema.get("default") is not None:
        said.append(f"Default: `{schema['default']}`.")
    return " ".join(part for part in said if part)


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words, with links to the shapes that it names."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#shape-{name.lower()})"
    for many in ("anyOf", "oneOf", "allOf"):
        if many in schema:
            return " or ".join(dict.fromkeys(_type(each) for each in schema[many]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kind = schema.get("format") or schema.get("type") or "anything"
    limits = [f"{word} {schema[key]}" for key, word in _LIMITS.items() if key in schema]
    return f"{kind} ({', '.join(limits)})" if limits else str(kind)


_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "minLength": "length at least",
    "maxLength": "length at most",
    "minItems": "items at least",
    "maxItems": "items at most",
}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
