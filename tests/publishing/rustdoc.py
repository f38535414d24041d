"""Reads rustdoc's JSON output, and writes each public item of a crate on one line."""

from collections import namedtuple

# The versions of the format with which docs/public_api.txt was compared.
FORMATS = range(45, 58)

# `path` orders the lines, and `kind` those with the same path.
Line = namedtuple("Line", "path kind text")

# These are written without their modules. Users have them in scope.
PRELUDE = {
    "AsMut", "AsRef", "Box", "Clone", "Copy", "Default", "DoubleEndedIterator", "Drop", "Eq", "ExactSizeIterator",
    "Extend", "Fn", "FnMut", "FnOnce", "From", "FromIterator", "Into", "IntoIterator", "Iterator", "Option", "Ord",
    "PartialEq", "PartialOrd", "Result", "Send", "Sized", "String", "Sync", "ToOwned", "ToString", "TryFrom",
    "TryInto", "Unpin", "Vec",
}
# Derives add these as well. They say nothing that `PartialEq` does not.
OMITTED_TRAITS = {"StructuralPartialEq"}
AUTO_TRAITS = ("Send", "Sync")


def lines_of(document):
    """The lines of all items that can be reached from the root of the crate."""
    return Crate(document).lines()


class Crate:
    def __init__(self, document):
        self.index = document["index"]
        self.paths = document["paths"]
        self.root = document["root"]
        self.name = self.item(self.root)["name"]
        # The public path of each item. An item that is exported twice has the first, shortest one.
        self.public = {}

    def lines(self):
        reached = list(self.reach(self.root, self.name, set()))
        for path, item in sorted(reached, key=lambda it: (it[0].count("::"), it[0])):
            self.public.setdefault(str(item["id"]), path)
        found = []
        for path, item in reached:
            found.extend(self.describe(path, item))
        return found

    def item(self, key):
        return self.index.get(str(key))

    def reach(self, module, path, seen):
        """The items of a module and of those below it, with their public paths."""
        if module in seen:
            return
        seen = seen | {module}
        for key in self.item(module)["inner"]["module"]["items"]:
            item = self.item(key)
            if item is None:
                continue
            kind, inner = inner_of(item)
            if kind == "use":
                target = self.item(inner["id"]) if inner["id"] is not None else None
                if inner["is_glob"]:
                    yield from self.reach(inner["id"], path, seen)
                elif target is None:
                    yield f"{path}::{inner['name']}", item
                elif inner_of(target)[0] == "module":
                    yield from self.reach(inner["id"], f"{path}::{inner['name']}", seen)
                else:
                    yield f"{path}::{inner['name']}", target
            elif item["visibility"] == "public":
                yield f"{path}::{item['name']}", item
                if kind == "module":
                    yield from self.reach(key, f"{path}::{item['name']}", seen)

    # Items.

    def describe(self, path, item):
        kind, inner = inner_of(item)
        start = self.attributes(item)
        if kind == "module":
            yield Line(path, 0, f"pub mod {path}")
        elif kind == "use":
            yield Line(path, 0, f"pub use {path} = {inner['source']}")
        elif kind == "function":
            yield Line(path, 0, f"{start}pub {self.function(path, inner)}")
        elif kind == "constant":
            yield Line(path, 0, f"{start}pub const {path}: {self.type(inner['type'])}")
        elif kind == "static":
            mutable = "mut " if inner.get("is_mutable") else ""
            yield Line(path, 0, f"{start}pub static {mutable}{path}: {self.type(inner['type'])}")
        elif kind == "type_alias":
            generics, where = self.generics(inner["generics"])
            yield Line(path, 0, f"{start}pub type {path}{generics}{where} = {self.type(inner['type'])}")
        elif kind in ("macro", "proc_macro"):
            yield Line(path, 0, f"{start}pub macro {path}")
        elif kind == "trait":
            yield from self.describe_trait(path, start, inner)
        elif kind in ("struct", "union"):
            yield from self.describe_struct(path, start, kind, inner)
        elif kind == "enum":
            yield from self.describe_enum(path, start, inner)
        else:
            raise ValueError(f"{path}: rustdoc.py does not know the kind {kind}")

    def describe_struct(self, path, start, kind, inner):
        generics, where = self.generics(inner["generics"])
        shape = inner.get("kind", {"plain": inner})
        if shape == "unit":
            fields, body = [], ";"
        elif "tuple" in shape:
            fields = shape["tuple"]
            body = "(..)" if None in fields else f"({self.fields_of(fields)})"
        else:
            fields, stripped = shape["plain"]["fields"], shape["plain"]["has_stripped_fields"]
            open_ended = stripped or "non_exhaustive" in start
            body = " { .. }" if open_ended else f" {{ {self.fields_of(fields, named=True)} }}"
        yield Line(path, 0, f"{start}pub {kind} {path}{generics}{body}{where}")
        for field in filter(None, map(self.item, fields)):
            field_path = f"{path}::{field['name']}"
            yield Line(field_path, 0, f"{self.attributes(field)}pub {field_path}: {self.type(inner_of(field)[1])}")
        yield from self.describe_impls(path, inner["impls"])

    def describe_enum(self, path, start, inner):
        generics, where = self.generics(inner["generics"])
        names = [variant["name"] for variant in filter(None, map(self.item, inner["variants"]))]
        body = ".." if "non_exhaustive" in start else ", ".join(names)
        yield Line(path, 0, f"{start}pub enum {path}{generics} {{ {body} }}{where}")
        for variant in filter(None, map(self.item, inner["variants"])):
            variant_path = f"{path}::{variant['name']}"
            _, content = inner_of(variant)
            shape = content["kind"]
            if shape == "plain":
                body = ""
            elif "tuple" in shape:
                body = f"({self.fields_of(shape['tuple'])})"
            else:
                stripped = ", .." if shape["struct"]["has_stripped_fields"] else ""
                body = f" {{ {self.fields_of(shape['struct']['fields'], named=True)}{stripped} }}"
            value = f" = {content['discriminant']['expr']}" if content.get("discriminant") else ""
            yield Line(variant_path, 0, f"{self.attributes(variant)}pub {variant_path}{body}{value}")
        yield from self.describe_impls(path, inner["impls"])

    def describe_trait(self, path, start, inner):
        generics, where = self.generics(inner["generics"])
        bounds = self.bounds(inner["bounds"])
        bounds = f": {bounds}" if bounds else ""
        qualifiers = "unsafe " if inner["is_unsafe"] else ""
        items = list(filter(None, map(self.item, inner["items"])))
        body = ", ".join([item["name"] for item in items if is_required(item)] + [".."])
        yield Line(path, 0, f"{start}pub {qualifiers}trait {path}{generics}{bounds}{where} {{ {body} }}")
        for item in items:
            yield self.associated(path, item, in_trait=True)
        for block in filter(None, map(self.item, inner["implementations"])):
            yield from self.describe_impl(path, inner_of(block)[1])

    def describe_impls(self, path, impls):
        auto = {}
        for block in filter(None, map(self.item, impls)):
            _, inner = inner_of(block)
            if inner["is_synthetic"]:
                auto[last(inner["trait"]["path"])] = self.auto(inner)
            elif inner["blanket_impl"] is None:
                yield from self.describe_impl(path, inner)
        stated = [auto.get(name, name) for name in AUTO_TRAITS]
        if any(auto.get(name) for name in AUTO_TRAITS):
            yield Line(path, 3, f"{path}: {', '.join(stated)}")

    def auto(self, inner):
        name = last(inner["trait"]["path"])
        if inner["is_negative"]:
            return f"!{name}"
        where = self.generics(inner["generics"])[1]
        return f"{name}{where}"

    def describe_impl(self, path, inner):
        generics, where = self.generics(inner["generics"])
        of_type = self.type(inner["for"])
        if inner["trait"] is None:
            for item in filter(None, map(self.item, inner["items"])):
                if item["visibility"] == "public":
                    yield self.associated(path, item, impl=(generics, where, of_type))
            return
        key = str(inner["trait"]["id"])
        own = self.paths.get(key, {}).get("crate_id") == 0
        if last(inner["trait"]["path"]) in OMITTED_TRAITS or own and key not in self.public:
            return
        implemented = self.path(inner["trait"])
        qualifiers = "unsafe " if inner["is_unsafe"] else ""
        negative = "!" if inner["is_negative"] else ""
        types = []
        for item in filter(None, map(self.item, inner["items"])):
            kind, content = inner_of(item)
            if kind == "assoc_type" and content["type"] is not None:
                types.append(f"{item['name']} = {self.type(content['type'])}")
        types = f" {{ type {', '.join(types)} }}" if types else ""
        text = f"{qualifiers}impl{generics} {negative}{implemented} for {of_type}{where}{types}"
        yield Line(path, 2, text)

    def associated(self, path, item, in_trait=False, impl=None):
        kind, inner = inner_of(item)
        item_path = f"{path}::{item['name']}"
        start = self.attributes(item)
        if impl and (impl[0] or impl[1]):
            # A block with bounds of its own.
            start = f"impl{impl[0]} {impl[2]}{impl[1]}: {start}"
        if kind == "function":
            manner = ("required " if is_required(item) else "provided ") if in_trait else "pub "
            return Line(item_path, 0, f"{start}{manner}{self.function(item_path, inner)}")
        manner = "" if in_trait else "pub "
        if kind == "assoc_const":
            value = f" = {inner['value']}" if inner.get("value") and in_trait else ""
            return Line(item_path, 0, f"{start}{manner}const {item_path}: {self.type(inner['type'])}{value}")
        generics, where = self.generics(inner["generics"])
        bounds = f": {self.bounds(inner['bounds'])}" if inner["bounds"] else ""
        value = f" = {self.type(inner['type'])}" if inner["type"] else ""
        return Line(item_path, 0, f"{start}{manner}type {item_path}{generics}{bounds}{where}{value}")

    def attributes(self, item):
        # The attributes are strings or objects, depending on the version of the format.
        written = str(item["attrs"])
        found = [name for name in ("non_exhaustive", "must_use") if name in written]
        if item["deprecation"] is not None:
            found.append("deprecated")
        return "".join(f"#[{name}] " for name in found)

    def fields_of(self, keys, named=False):
        fields = map(self.item, keys)
        written = []
        for field in fields:
            if field is None:
                written.append("_")
            elif named:
                written.append(f"{field['name']}: {self.type(inner_of(field)[1])}")
            else:
                written.append(self.type(inner_of(field)[1]))
        return ", ".join(written)

    # Signatures.

    def function(self, path, inner):
        header, signature = inner["header"], inner["sig"]
        qualifiers = "".join(f"{name} " for name in ("const", "async", "unsafe") if header[f"is_{name}"])
        generics, where = self.generics(inner["generics"])
        arguments = ", ".join(self.argument(*it) for it in signature["inputs"])
        output = f" -> {self.type(signature['output'])}" if signature["output"] else ""
        return f"{qualifiers}fn {path}{generics}({arguments}){output}{where}"

    def argument(self, name, of_type):
        written = self.type(of_type)
        if name == "self":
            forms = {"Self": "self", "&Self": "&self", "&mut Self": "&mut self"}
            return forms.get(written, f"self: {written}")
        return f"{name}: {written}"

    def generics(self, generics):
        """`<T: Bound>` and ` where ..`, or empty texts."""
        parameters = []
        for parameter in generics["params"]:
            [(kind, inner)] = parameter["kind"].items()
            name = parameter["name"]
            if kind == "lifetime":
                outlives = f": {' + '.join(inner['outlives'])}" if inner["outlives"] else ""
                parameters.append(f"{name}{outlives}")
            elif kind == "const":
                parameters.append(f"const {name}: {self.type(inner['type'])}")
            elif not inner["is_synthetic"]:
                bounds = f": {self.bounds(inner['bounds'])}" if inner["bounds"] else ""
                default = f" = {self.type(inner['default'])}" if inner["default"] else ""
                parameters.append(f"{name}{bounds}{default}")
        predicates = []
        for predicate in generics["where_predicates"]:
            [(kind, inner)] = predicate.items()
            if kind == "bound_predicate":
                binder = self.binder(inner["generic_params"])
                predicates.append(f"{binder}{self.type(inner['type'])}: {self.bounds(inner['bounds'])}")
            elif kind == "lifetime_predicate":
                predicates.append(f"{inner['lifetime']}: {' + '.join(inner['outlives'])}")
            else:
                predicates.append(f"{self.type(inner['lhs'])} = {self.term(inner['rhs'])}")
        written = f"<{', '.join(parameters)}>" if parameters else ""
        return written, f" where {', '.join(sorted(predicates))}" if predicates else ""

    def binder(self, parameters):
        names = [it["name"] for it in parameters]
        return f"for<{', '.join(names)}> " if names else ""

    def bounds(self, bounds):
        written = []
        for bound in bounds:
            [(kind, inner)] = bound.items()
            if kind == "trait_bound":
                modifier = {"none": "", "maybe": "?", "maybe_const": "~const "}[inner["modifier"]]
                written.append(f"{modifier}{self.binder(inner['generic_params'])}{self.path(inner['trait'])}")
            elif kind == "outlives":
                written.append(inner)
            else:
                names = [it if isinstance(it, str) else next(iter(it.values())) for it in inner]
                written.append(f"use<{', '.join(names)}>")
        return " + ".join(written)

    def term(self, term):
        return self.type(term["type"]) if "type" in term else term["constant"]["expr"]

    # Types.

    def type(self, of_type):
        if of_type == "infer":
            return "_"
        [(kind, inner)] = of_type.items()
        if kind == "resolved_path":
            return self.path(inner)
        if kind in ("generic", "primitive"):
            return inner if inner != "never" else "!"
        if kind == "tuple":
            return f"({', '.join(map(self.type, inner))}{',' if len(inner) == 1 else ''})"
        if kind == "slice":
            return f"[{self.type(inner)}]"
        if kind == "array":
            return f"[{self.type(inner['type'])}; {inner['len']}]"
        if kind == "borrowed_ref":
            lifetime = f"{inner['lifetime']} " if inner["lifetime"] else ""
            mutable = "mut " if inner["is_mutable"] else ""
            target = self.type(inner["type"])
            return f"&{lifetime}{mutable}{f'({target})' if ' + ' in target and needs_group(inner['type']) else target}"
        if kind == "raw_pointer":
            return f"*{'mut' if inner['is_mutable'] else 'const'} {self.type(inner['type'])}"
        if kind == "impl_trait":
            return f"impl {self.bounds(inner)}"
        if kind == "dyn_trait":
            traits = [f"{self.binder(it['generic_params'])}{self.path(it['trait'])}" for it in inner["traits"]]
            return f"dyn {' + '.join(traits + ([inner['lifetime']] if inner['lifetime'] else []))}"
        if kind == "qualified_path":
            return self.qualified(inner)
        if kind == "function_pointer":
            signature = inner["sig"]
            output = f" -> {self.type(signature['output'])}" if signature["output"] else ""
            arguments = ", ".join(self.type(it) for _, it in signature["inputs"])
            return f"{self.binder(inner['generic_params'])}fn({arguments}){output}"
        raise ValueError(f"rustdoc.py does not know the type {kind}")

    def qualified(self, inner):
        written = self.type(inner["self_type"])
        if inner["trait"] is None or written == "Self":
            return f"{written}::{inner['name']}"
        return f"<{written} as {self.path(inner['trait'])}>::{inner['name']}"

    def path(self, path):
        """A path with its arguments."""
        return self.resolved(path) + self.arguments(path.get("args"))

    def resolved(self, path):
        key = str(path["id"])
        if key in self.public:
            return self.public[key]
        known = self.paths.get(key)
        name = last(path["path"])
        if known is None:
            return path["path"]
        first, *modules, name = known["path"]
        if first not in ("alloc", "core", "std"):
            return f"{first}::{name}"
        if name in PRELUDE and modules[0] not in ("io", "fmt"):
            return name
        # Users name these modules. Those below them are private.
        depth = 3 if modules[:2] == ["os", "unix"] else 2 if modules[0] == "os" else 1
        return "::".join(["std", *modules[:depth], name])

    def arguments(self, arguments):
        if not arguments:
            return ""
        [(kind, inner)] = arguments.items() if isinstance(arguments, dict) else [(arguments, None)]
        if kind == "parenthesized":
            output = f" -> {self.type(inner['output'])}" if inner["output"] else ""
            return f"({', '.join(map(self.type, inner['inputs']))}){output}"
        if kind != "angle_bracketed":
            return "(..)"
        written = []
        for argument in inner["args"]:
            if argument == "infer":
                written.append("_")
            else:
                [(of, value)] = argument.items()
                written.append({"lifetime": str, "type": self.type, "const": lambda it: it["expr"]}[of](value))
        for constraint in inner["constraints"]:
            [(of, value)] = constraint["binding"].items()
            value = f" = {self.term(value)}" if of == "equality" else f": {self.bounds(value)}"
            written.append(f"{constraint['name']}{self.arguments(constraint['args'])}{value}")
        return f"<{', '.join(written)}>" if written else ""


def inner_of(item):
    [(kind, inner)] = item["inner"].items()
    return kind, inner


def is_required(item):
    """Whether every implementation of the trait has to have this item."""
    kind, inner = inner_of(item)
    if kind == "function":
        return not inner["has_body"]
    return inner.get("value" if kind == "assoc_const" else "type") is None


def last(path):
    return path.rsplit("::", 1)[-1]


def needs_group(of_type):
    return "dyn_trait" in of_type or "impl_trait" in of_type
