"""Flags of training: its settings, and those of every objective."""

from absl import flags

from tfadv.flags import generated
from tfadv.objectives import registry
from tfadv.runs import methods
from tfadv.runs.settings import Settings


class Training(generated.Flags):
    """The flags of `tfadv.Settings`; see `generated.Flags`.

    All objectives that are registered have flags; those of the method count.
    """

    def __init__(self):
        super().__init__(Settings)

    def define(self) -> None:
        helps = (
            f"{method.name}: {method.help}"
            for method in methods.registered().values()
        )
        generated.define(Settings, {"method": "; ".join(helps) + "."})
        for name in registry.names():
            generated.define(registry.settings_of(name))

    def names(self) -> dict[str, str]:
        found = super().names()
        for name in registry.names():
            path = f"objectives.{name}."
            found |= generated.names(registry.settings_of(name), path)
        return found

    def read(self) -> Settings:
        method = methods.get(flags.FLAGS.method)
        # All of them, for a mistake counts where it is not used, too.
        objectives = {
            name: generated.read(registry.settings_of(name))
            for name in registry.names()
        }
        used = {name: objectives[name] for name in method.objectives}
        return generated.read(Settings, objectives=used)
