"""The commands for a finished bundle: inspect, verify, pack and rebuild. They need what serving needs, and nothing of what made the bundle."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from compress.console import print_table

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

BundleArgument = Annotated[Path, typer.Argument(help="directory of a bundle, or artifacts/NAME")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


class Device(StrEnum):
    """Where a model runs."""

    cpu = "cpu"
    cuda = "cuda"


@app.command()
def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Show what is in a bundle: for each model its size, accuracies, the verdict of the accuracy gate, the operators and where
    their time goes; and what the bundle was made from.

    The hash of every file is checked. Each model runs for a fraction of a second.
    """
    from export.bundle import Bundle, find_bundle
    from export.facts import bundle_facts

    facts = bundle_facts(Bundle(find_bundle(bundle)))
    if as_json:
        typer.echo(json.dumps(facts.as_dict(), ensure_ascii=False, indent=2))
        return
    for line in facts.lines():
        typer.echo(line)
    print_table(*facts.table())
    for line in facts.model_lines():
        typer.echo(line)


@app.command()
def verify(
    bundle: BundleArgument,
    data: Annotated[
        Path | None,
        typer.Option(
            help="labelled texts to measure the accuracy on: a table, or the recipe (.toml) for its dev texts"
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="column of the texts; default: as in the bundle's recipe")] = None,
    text_b: Annotated[str | None, typer.Option(help="column of the second texts, for a bundle of pairs")] = None,
    label: Annotated[str | None, typer.Option(help="column of the labels")] = None,
    domain: Annotated[str | None, typer.Option(help="column of the domains, if each has a student")] = None,
    device: Annotated[Device, typer.Option(help="where the models run")] = Device.cpu,
) -> None:
    """Check a bundle on this machine: its files against their hashes, its answers against those at export, and its accuracy.

    The exit status is 0 if all of it holds. Else it is 2, and one line says what does not.
    """
    from export.bundle import Bundle, find_bundle
    from export.verify import verify_bundle

    opened = Bundle(find_bundle(bundle))
    for line in verify_bundle(opened, device.value):
        typer.echo(line)
    if data is None:
        typer.echo("accuracy: not measured; give labelled texts with --data")
    else:
        from export.evaluation import check_accuracy, read_labelled

        texts = read_labelled(data, opened.manifest, text=text, text_b=text_b, label=label, domain=domain)
        for line in check_accuracy(opened, texts, device.value):
            typer.echo(line)
    typer.echo(f"verified: {opened.directory}")


@app.command()
def pack(
    bundle: Annotated[
        Path | None, typer.Argument(help="directory of a bundle, or artifacts/NAME; default: the newest in artifacts/")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="to keep, such as int8 or fp32; may be repeated; default: the bundle's")
    ] = None,
    cascade: Annotated[
        bool | None, typer.Option("--cascade/--no-cascade", help="whether to keep the teacher; default: as the bundle")
    ] = None,
    out: Annotated[Path, typer.Option(help="directory of the new bundle; a bundle there is replaced")] = Path(
        "build/bundle"
    ),
) -> None:
    """Copy a bundle with only what one server needs, for an image: one precision, and the teacher only for a cascade."""
    from export.bundle import Bundle, find_bundle
    from export.pack import pack

    whole = Bundle(find_bundle(bundle))
    packed = pack(whole, out, precisions=precision or (), cascade=cascade)
    sizes = [sum(file.bytes for file in one.manifest.files.values()) / 1e6 for one in (packed, whole)]
    typer.echo(f"packed {out}: {', '.join(packed.manifest.files)}; {sizes[0]:.1f} of {sizes[1]:.1f} MB")


@app.command()
def rebuild(
    bundle: BundleArgument,
    compute_capability: Annotated[
        str | None, typer.Option(help="of the GPU to build for, such as 8.9; default: that of this machine")
    ] = None,
) -> None:
    """Build the TensorRT engines of a bundle again, from the graphs in it: for another GPU or another version of TensorRT.

    TensorRT for RTX builds without a GPU.
    """
    from export.bundle import Bundle, find_bundle
    from export.rebuild import rebuild

    rebuilt = rebuild(Bundle(find_bundle(bundle)), compute_capability, typer.echo)
    for name, model in rebuilt.manifest.models.items():
        if model.engine is not None:
            typer.echo(f"{name}: {model.file}, {model.note}")
