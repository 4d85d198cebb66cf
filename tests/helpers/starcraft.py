"""Small recordings of StarCraft II, as messages of its protocol and as files."""

from perceiver_io.data.starcraft.messages import message_class
from scripts import _recordings

OWN, ENEMY, NEUTRAL = 1, 4, 3


def observation(loop, units, commands=()):
    """A `ResponseObservation`: (tag, alliance, settings) of units; (loop, settings) of commands."""
    response = message_class("ResponseObservation")()
    response.observation.game_loop = loop
    for tag, alliance, settings in units:
        settings = dict(settings)
        x, y = settings.pop("pos", (10.5, 20.25))
        unit = response.observation.raw_data.units.add(
            tag=tag, alliance=alliance, unit_type=settings.pop("unit_type", 48), **settings
        )
        unit.pos.x, unit.pos.y = x, y
    for at, settings in commands:
        settings = dict(settings)
        action = response.actions.add(game_loop=at)
        command = action.action_raw.unit_command
        if "point" in settings:
            x, y = settings.pop("point")
            command.target_world_space_pos.x, command.target_world_space_pos.y = x, y
        command.unit_tags.extend(settings.pop("selected"))
        for name, value in settings.items():
            setattr(command, name, value)
    return response


def recording(*times):
    """The bytes of a recording on a map of 32 x 48, of (player, observation)."""
    info = message_class("ResponseGameInfo")(map_name="Test LE")
    info.start_raw.map_size.x, info.start_raw.map_size.y = 32, 48
    parts = [_recordings.point_in_time(*time) for time in times]
    return _recordings.first_part(info) + b"".join(parts)
