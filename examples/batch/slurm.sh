#!/bin/bash
# Upscale a raster in one SLURM job that may be stopped at any moment and goes on by itself.
#
#   sbatch --time=04:00:00 --cpus-per-task=16 --mem=32G slurm.sh coarse.tif fine.zarr --scale 16
#
#   sbatch slurm.sh https://.../v1 fine.zarr --collection cop-dem-glo-30 --bbox 86.8 27.9 87.0 28.1
#
# All of this goes to `xdemsr upscale`. Say what your site wants (account,
# partition, --gpus=1) on the command line of sbatch.

#SBATCH --job-name=upscale
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@60

# Started again by SLURM: a node that fails, a job that is preempted.
# Started again from here: when the time is nearly up (USR1), and when the work was killed, as by
# the memory limit; at most so often, since what is killed each time will not end.
restarts=${RESTARTS:-10}

again() {
    if (( ${SLURM_RESTART_COUNT:-0} < restarts )); then
        echo "starting again after $1: ${SLURM_RESTART_COUNT:-0} of $restarts times so far"
        scontrol requeue "$SLURM_JOB_ID"
        # SLURM ends this script.
        sleep 60
    fi
}

trap 'again "the time was nearly up"' USR1

srun xdemsr upscale "$@" --resume &
work=$!
status=0
# A signal ends `wait`, not the work.
while kill -0 "$work" 2>/dev/null; do
    wait "$work"
    status=$?
done
# More than 128: killed by a signal.
if (( status > 128 )); then
    again "status $status"
fi
exit $status
