"""
Unmixing a recording
====================

Four people and instruments sound at once, and four microphones each hear all of them. Which sound is whose? Nobody
tells: neither the sounds nor the places are known. Independent component analysis finds out from the mixture alone,
and ``Unmixer`` does it while the mixture comes in.

The sounds are 20 s each, at 16 kHz, and ship with the package: a French speaker (© June Wallack, CC BY-SA 3.0), an
Italian one (© Carlo Flora, CC BY 3.0), a Russian one (© Maxim Topal, CC BY 3.0), and "Morning Coffee" (© Manolo
Camp, CC BY-SA 3.0). ``stream_em/data/recordings/ATTRIBUTION.md`` says more. The sounds on this page are mixtures of
these under CC BY-SA 3.0.
"""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import soundfile

import stream_em as sem
from stream_em.demo import MIXING, RECORDINGS, recordings
from stream_em.unmixing.metrics import interference_to_signal, matched_to, si_sdr

RATE = 16_000
signals = recordings()
microphones = signals @ MIXING.T
print(f"{len(signals) / RATE:.0f} s of {microphones.shape[1]} microphones; the mixing matrix is\n{MIXING}")

# %%
# Chunk by chunk
# --------------
#
# ``process`` takes the next chunk of all channels and returns the sources of that chunk, by what was learned before
# it. It adds no delay. Here a chunk is 10 ms. We also note how much of the others is left in each source, which
# needs the true mixing: the interference-to-signal ratio.

unmixer = sem.Unmixer(sample_rate=RATE)
CHUNK = 160
sources, seconds, interference = [], [], []
for start in range(0, len(microphones), CHUNK):
    sources.append(unmixer.process(microphones[start : start + CHUNK]))
    if start % (10 * CHUNK) == 0 and unmixer.engine is not None:
        seconds.append(start / RATE)
        interference.append(interference_to_signal(unmixer.unmixing, MIXING))
sources = np.concatenate(sources)
below = next(t for t, level in zip(seconds, interference, strict=True) if level < -20)
print(f"below -20 dB after {below:.1f} s, {interference[-1]:.0f} dB in the end")
print(f"a chunk of 10 ms takes {1e6 * unmixer.latency.median:.0f} µs")

# %%
# -20 dB means that a hundredth of the power is still of others; nobody hears -40 dB.

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.plot(seconds, interference, color="#c2410c")
axes.axhline(-20, color="#9aa5b1", linewidth=1)
axes.set(xlabel="seconds of sound", ylabel="interference to signal, dB")
plt.show()

# %%
# Before and after
# ----------------
#
# Spectrograms of the last five seconds: what was recorded, what the microphones heard, what came out. Order and
# sign of the sources are not in the data, so the outputs are matched with the recordings for the picture.

last = slice(len(signals) - 5 * RATE, None)
order = matched_to(sources[last], signals[last])
rows = {"recorded": signals[last], "heard": microphones[last], "separated": sources[last][:, order]}
figure, panels = plt.subplots(3, 4, figsize=(9, 5), sharex=True, sharey=True, layout="constrained")
for line, (title, sound) in zip(panels, rows.items(), strict=True):
    for k, axes in enumerate(line):
        axes.specgram(sound[:, k] + 1e-9, NFFT=512, noverlap=256, Fs=RATE, vmin=-110, vmax=-30, cmap="magma")
        axes.set(ylim=(0, 4000), title=f"{title}: {'microphone ' + str(k + 1) if title == 'heard' else RECORDINGS[k]}")
        axes.title.set_fontsize("small")
plt.show()

for name, ratio in zip(RECORDINGS, si_sdr(sources[last][:, order], signals[last]), strict=True):
    print(f"{name}: signal to distortion {ratio:.0f} dB")

# %%
# Listen
# ------


class Players:
    """Sounds (n,) by name, as players in a page or a notebook."""

    def __init__(self, **sounds):
        self.sounds = sounds

    def _repr_html_(self):
        return "".join(f"<p>{name}<br>{self.player(sound)}</p>" for name, sound in self.sounds.items())

    def player(self, sound):
        """Return a sound as HTML."""
        file = io.BytesIO()
        soundfile.write(file, sound / np.abs(sound).max() / 1.1, RATE, format="FLAC")
        return f'<audio controls src="data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode()}"></audio>'


Players(
    microphone_1=microphones[last, 0], separated_french=rows["separated"][:, 0], separated_music=rows["separated"][:, 3]
)

# %%
# When the microphones move
# -------------------------
#
# The mixing changes in the middle. The unmixer notices it by itself and learns anew; ``events`` tells.

from stream_em.demo import MOVED

half = len(signals) // 2
unmixer = sem.Unmixer(sample_rate=RATE)
curve = []
for start in range(0, len(signals), 10 * CHUNK):
    now = slice(start, start + 10 * CHUNK)
    mixing = MIXING if start < half else MOVED
    unmixer.process(signals[now] @ mixing.T)
    curve.append(interference_to_signal(unmixer.unmixing, mixing))
for event in unmixer.events:
    print(f"{event.at / RATE:5.1f} s  {event.kind}: {event.detail}")

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.plot(np.arange(len(curve)) / 10, curve, color="#c2410c")
axes.axvline(half / RATE, color="#9aa5b1", linewidth=1)
axes.set(xlabel="seconds of sound", ylabel="interference to signal, dB")
plt.show()
