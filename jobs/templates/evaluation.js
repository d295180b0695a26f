// Clips of a row start together and stay together; nothing moves for those who asked for stillness.
const button = document.getElementById("play");
const rows = [...document.querySelectorAll(".row")].map((row) => [...row.querySelectorAll("video")]);
let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;

function apply() {
  for (const videos of rows) {
    for (const video of videos) {
      if (playing) { video.currentTime = 0; video.play().catch(() => {}); } else { video.pause(); }
    }
  }
  if (button) button.textContent = playing ? "Pause" : "Play";
}

// Browsers load and stop videos as they scroll by: the first of a row leads the others.
for (const [leader, ...others] of rows) {
  leader.addEventListener("timeupdate", () => {
    for (const video of others) {
      if (Math.abs(video.currentTime - leader.currentTime) > 0.15) video.currentTime = leader.currentTime;
    }
  });
}

if (button) button.addEventListener("click", () => { playing = !playing; apply(); });
apply();
