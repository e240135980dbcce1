"""The processes that train for a driver."""

import psutil


def training_processes(driver: int) -> list[psutil.Process]:
    """Ray's workers below a driver that train a pack, or keep one."""
    found = []
    for child in psutil.Process(driver).children(recursive=True):
        try:
            if "Trainable" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return found
