"""Command lines as people type them: real programs with their flags, and scripts with made-up ones.

In a template `{s}` is a stem of a file name, `{n}` a number, `{d}` a folder, `{h}` a host, `{p}` a port, `{w}` a word;
every draw fills them anew. Lists of commands from outside can be added when the data are generated.
"""

import re
import shlex
from random import Random

from llmos.nlui.dataset import pools

_TEMPLATES = r"""
python {s}.py|python {s}.py --epochs {n}|python3 {s}.py --lr 3e-4 --batch {n}|python -m {w}.{w} --seed {n}|python3 -m http.server {p}
python train.py --config configs/{s}.yaml|python train_{w}.py --data {d} --workers {n}|python -u {s}.py {d}/{s}.csv
python -m pytest -q tests/{w}|pytest -x -n {n} tests|python3.11 {s}.py --input {s}.json --output {s}_out.json
python {s}.py --name "{w} {w}"|python -c "print({n} * {n})"|torchrun --nproc_per_node {n} {s}.py|torchrun {s}.py --amp
accelerate launch {s}.py --mixed_precision bf16|deepspeed --num_gpus {n} {s}.py --deepspeed ds_z{n}.json|uv run {s}.py --n {n}
poetry run {w} serve|jupyter lab --no-browser --port {p}|jupyter nbconvert --execute {s}.ipynb|tensorboard --logdir {d} --port {p}
uvicorn {w}.main:app --port {p}|gunicorn -w {n} {w}.wsgi:application|gunicorn --bind 0.0.0.0:{p} {w}:app|flask run --port {p}
celery -A {w} worker -c {n}|celery -A {w} beat|streamlit run {s}.py|mlflow server --port {p}|airflow scheduler|dagster dev -p {p}
node {s}.js|node server.js --port {p}|node dist/{s}.js|npm start|npm run {w}|npm run build -- --prod|npx vite --port {p}|yarn {w}
pnpm run {w}:{w}|deno run --allow-net {s}.ts|bun run {s}.ts|ruby {s}.rb|bundle exec sidekiq -c {n}|rails server -p {p}
php artisan queue:work --tries={n}|perl {s}.pl {d}|Rscript {s}.R {n}|julia --threads {n} {s}.jl|matlab -batch {s}
java -jar {s}.jar|java -Xmx{n}g -jar {s}.jar --port {p}|java -cp {w}.jar com.{w}.Main|./gradlew {w}Test|mvn -q package
go run ./cmd/{w}|go test ./... -count=1|cargo build --release|cargo test --workspace|cargo run -- --{w} {n}|make -j{n}|make {w}
ninja -C build|cmake --build build -j {n}|bazel build //{w}/{w}:all|dotnet run --project {w}|swift build -c release|tox -e py311
docker run --rm -p {p}:{p} {w}/{w}:latest|docker compose up|docker compose -f {s}.yml up --build|podman run -d {w}:{n}
kubectl logs -f deploy/{w}|helm upgrade {w} ./{w}|terraform plan -out {s}.tfplan|ansible-playbook -i hosts {s}.yml --limit {w}
rsync -a {d} {d}|rsync -avz --delete {d}/ {h}:{d}/|rsync -aHAX {d} /mnt/nas|rclone sync {d} {w}:{w}|rclone copy {w}:{s} {d}
restic -r {d} backup {d}|restic forget --keep-daily {n} --prune|borg create {d}::{w}-{n} {d}|tar czf {d}/{s}.tar.gz {d}
tar -xf {s}.tar -C {d}|zip -r {s}.zip {d}|gzip -9 {s}.log|zstd -T{n} {s}.tar|cp -a {d} {d}|dd if=/dev/zero of={s}.img bs=1M count={n}
ffmpeg -i {s}.mkv {s}.mp4|ffmpeg -i {s}.mov -c:v libx265 -crf {n} {s}.mp4|ffmpeg -y -i {s}.wav -ar 16000 {s}.flac
HandBrakeCLI -i {s}.iso -o {s}.m4v|yt-dlp -o {s}.mp4 https://video.example.com/{w}|convert {s}.png -resize {n}% {s}.jpg
blender -b {s}.blend -o //out/ -s 1 -e {n} -a|whisper {s}.m4a --model large-v3|openscad -o {s}.stl {s}.scad|obs --startrecording
pg_dump {w}|pg_dump -Fc -f {d}/{s}.dump {w}|psql -d {w} -f {s}.sql|vacuumdb -a -z|mysqldump --all-databases -r {s}.sql
mongod --dbpath {d}|redis-server --port {p}|redis-cli -p {p} flushdb|sqlite3 {s}.db "VACUUM;"|influxd --engine-path {d}
clickhouse-client --query "OPTIMIZE TABLE {w}.{w}"|duckdb {s}.duckdb ".read {s}.sql"|spark-submit --master local {s}.py {n}
hugo server|hugo --minify|jekyll build|mkdocs serve -a 0.0.0.0:{p}|caddy run --config {d}/Caddyfile|nginx -g "daemon off;"
haproxy -f {d}/{s}.cfg -db|traefik --configFile={s}.toml|ollama serve|llama-server -m {s}.gguf -c 8192 --port {p}
vllm serve {w}/{w}-{n}b --port {p}|tritonserver --model-repository={d}|wandb agent {w}/{w}/{s}|ray start --head --port={p}
curl -sS https://{h}/{w}?id={n} -o {s}.json|wget -c https://{h}/{s}.iso|aria2c -x {n} https://{h}/{s}.zip|httrack {h}
ssh {h} uptime|ssh -N -L {p}:localhost:{p} {h}|mosh {h}|nc -lk {p}|iperf3 -s -p {p}|tcpdump -i eth0 -w {s}.pcap port {p}
nmap -sV {h}|ping -c {n} {h}|dig +trace {h}|certbot renew --quiet|fail2ban-client reload|openvpn --config {s}.ovpn
find {d} -name "*.tmp" -mtime +{n} -delete|find {d} -type f -size +{n}M|du -sh {d}|grep -rn "{w} {w}" {d}|sort -n {s}.txt -o {s}.out
sh -c "sleep {n} && echo {w}"|bash -c "cat {s}.csv | sort > {s}.txt"|bash {s}.sh|bash {s}.sh {w} {n}|sh {s}.sh --{w}|zsh {s}.zsh
sh -c "./{s} --{w} | tee {s}.log"|echo "{w} {n}"|echo "kill {n}"|echo "stop all {w}"|sleep {n}|date|seq {n}|yes {w}|watch -n {n} date
stress-ng --vm {n} --timeout 60s|stress --cpu {n}|fio --name={w} --size={n}G --rw=randread|hyperfine "{w} {n}" "{w} --fast"
smartctl -t long /dev/sda|fstrim -av|btrfs scrub start {d}|zpool scrub {w}|mdadm --monitor --scan|badblocks -sv /dev/sdb
git pull|git -C {d} fetch --all|git gc --aggressive|svn update {d}|apt-get update|nix build .#{w}|emerge -uDN @world
pdflatex {s}.tex|latexmk -pdf {s}.tex|pandoc {s}.md -o {s}.pdf|soffice --headless --convert-to pdf {s}.docx
samtools sort -@ {n} {s}.bam|blastn -query {s}.fa -db nt -out {s}.tsv|bwa mem -t {n} {s}.fa {s}.fq|mdrun -deffnm {s} -nt {n}
mpirun -np {n} ./{s} -in {s}.in|srun -n {n} ./{w}|vasp_std|lmp -in {s}.in|orca {s}.inp|hashcat -m {n} {s}.txt words.txt
java -version|killall -0 {w}|pkill --help|systemctl status {w}|journalctl -f -u {w}|limit_test -n {n}|./kill_switch --{w}
{x}|{x}|{x} {n}|{x} --{w}|{x} --{w} {n}|{x} -v --{w}={n}|{x} {d}|{x} {w} {w}|{x} --{w} "{w} {w}"|{x} -c {s}.yaml|{x} --port {p}
{x} --all|{x} --once -q|{x} -i {s}.csv -o {s}.parquet --{w} {n}|{x} --{w} --{w} {n} {d}/{s}.txt|{x} '{w} {w}'|{x} --dry-run
"""
_SLOT = re.compile(r"\{(\w)\}")
_BETWEEN = re.compile(r"(?<! )\|(?! )")
_WORDS = [
    "app",
    "core",
    "main",
    "shop",
    "orders",
    "users",
    "sales",
    "tracker",
    "alpha",
    "beta",
    "prod",
    "staging",
    "debug",
    "full",
    "fast",
    "once",
    "force",
    "verbose",
    "site",
    "eu",
    "asia",
    "daily",
    "build",
    "test",
    "lint",
    "send",
    "check",
    "mode",
    "level",
    "depth",
    "rate",
    "scale",
    "title",
    "tasks",
    "jobs",
    "events",
    "items",
    "model",
    "data",
    "fold",
    "run",
    "stop",
    "kill",
]
_HOSTS = (
    "example.com",
    "10.0.0.9",
    "backup@nas.local",
    "db1.internal",
    "mirror.example.org",
    "192.168.1.20",
    "pi@cam2",
)


class Commands:
    """The pool: what is drawn is a command line as typed; `extra` are whole command lines from outside."""

    def __init__(self, extra: tuple[str, ...] = ()) -> None:
        templates = [template for line in _TEMPLATES.strip().splitlines() for template in _BETWEEN.split(line)]
        self._templates = templates
        self._extra = [line for line in extra if _plain(line)]

    def draw(self, rng: Random) -> str:
        """A command line."""
        if self._extra and rng.random() < 0.25:
            return rng.choice(self._extra)
        return _SLOT.sub(lambda match: _part(match[1], rng), rng.choice(self._templates))


def words_of(command: str) -> list[str]:
    """The argv of a command line as typed; raises `ValueError` when its quotes do not pair."""
    return shlex.split(command)


def _plain(line: str) -> bool:
    """Whether a line from outside is one plain command, no shell syntax and no prompt for the reader."""
    if len(line) > 90 or re.search(r"[|;&<>$`{}\\*?\[\]()#~!]", line) or " " not in line:
        return False
    try:
        return not words_of(line)[0].startswith(("sudo", "-")) and "=" not in words_of(line)[0]
    except ValueError:
        return False


def _part(letter: str, rng: Random) -> str:
    match letter:
        case "s":
            return pools.stem(rng)
        case "n":
            return str(rng.choice((rng.randint(2, 16), rng.randint(10, 100), rng.randint(100, 5000))))
        case "d":
            return pools.folder(rng)
        case "h":
            return rng.choice(_HOSTS)
        case "p":
            return str(rng.randint(1024, 19999))
        case "x":
            return pools.script(rng)
    return rng.choice(_WORDS) if rng.random() < 0.8 else pools.random_id(rng)
