"""What a sensor does to a picture, against the formulas of what it imitates."""

from __future__ import annotations

from boards import Picture, chessboard
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sensor.camera import Camera, Roi
from worldfm_ros.sensor.exposure import linear_of_bytes, to_bytes
from worldfm_ros.sensor.lens import Equidistant, PlumbBob
from worldfm_ros.sensor.motion import along, continued, pose_offsets
from worldfm_ros.sensor.sensor import Sensor
from worldfm_ros.sensor.settings import SensorSettings, settings_of

K = Intrinsics(160, 120, 150.0, 150.0, 79.5, 59.5)
BARREL = PlumbBob((-0.28, 0.09, 8e-4, -5e-4, -0.012))
TURN = 0.8  # rad/s to the right
HERE = [Pose.identity()]


def flat(value):
    """A generator of pictures of one colour, one metre away."""
    def generate(T, intrinsics):
        size = intrinsics.height, intrinsics.width
        return Picture(np.full((*size, 3), value, np.uint8), np.ones(size, np.float32), np.ones(size, np.uint16),
                       np.ones(size, bool))

    return generate


def edge_at(azimuth, depth=2.0):
    """A generator: the plane z = depth is white right of this azimuth about the world's y axis, black left of it."""
    def generate(T, intrinsics):
        rays = intrinsics.unproject(np.ones((intrinsics.height, intrinsics.width))) @ T.rotation.as_matrix().T
        scale = (depth - T.translation[2]) / rays[..., 2]
        x = T.translation[0] + rays[..., 0] * scale - depth * np.tan(azimuth)
        step = np.abs(np.gradient(x, axis=1))
        white = np.rint(255 * np.clip(x / step + 0.5, 0, 1)).astype(np.uint8)
        in_camera = T.inverse().apply(T.translation + rays * scale[..., None])[..., 2]
        return Picture(np.repeat(white[..., None], 3, -1), in_camera.astype(np.float32),
                       (white > 127).astype(np.uint16), np.ones(white.shape, bool))

    return generate


def edges_of(rgb):
    """For each row, the u of the edge: where the white begins."""
    return rgb.shape[1] - 0.5 - (rgb[..., 0] / 255.0).sum(axis=1)


def turning(sensor, rate=TURN):
    """Poses of a camera that turns about its y axis."""
    return [Pose(Rotation.from_rotvec([0, rate * t, 0]), np.zeros(3)) for t in sensor.offsets]


def test_a_camera_without_settings_changes_nothing():
    sensor = Sensor(Camera(K))
    made = []

    def generate(T, intrinsics):
        made.append(chessboard(Pose(Rotation.identity(), [0, 0, 0.5]))(T, intrinsics))
        assert intrinsics == K
        return made[-1]

    taken = sensor.take(generate, HERE, 5)
    assert len(made) == 1 and taken.frame is made[0] and taken.depth is made[0].depth


def test_a_picture_of_a_pinhole_that_stands_still_survives_the_resampling():
    """The view's pixels fall on the picture's, so that a rolling shutter blurs nothing by itself."""
    sensor, generate = Sensor(Camera(K), SensorSettings(readout_time=0.03)), chessboard(
        Pose(Rotation.from_rotvec([0.2, 0.3, 0.1]), [-0.2, -0.1, 0.6]))
    taken, plain = sensor.take(generate, HERE * len(sensor.offsets), 0), generate(HERE[0], K)
    assert sensor.views[0].intrinsics.width > K.width
    np.testing.assert_array_equal(taken.frame.rgb, plain.rgb)
    np.testing.assert_array_equal(taken.frame.labels, plain.labels)
    np.testing.assert_allclose(taken.depth, plain.depth, rtol=1e-6)


@pytest.mark.parametrize("lens", [BARREL, Equidistant((-0.02, 0.005, -0.002, 3e-4))])
def test_pictures_depth_and_labels_bend_alike(lens):
    """A plane at 0.6 m: the depth of each pixel is that of its ray; the rectified picture is a pinhole's."""
    camera = Camera(K, lens)
    sensor, generate = Sensor(camera), chessboard(Pose(Rotation.from_rotvec([0.3, 0.2, 0.1]), [-0.2, -0.1, 0.6]))
    taken, plain = sensor.take(generate, HERE, 0), generate(HERE[0], K)
    normal = Rotation.from_rotvec([0.3, 0.2, 0.1]).as_matrix()[:, 2]
    grid = np.stack(np.meshgrid(np.arange(160), np.arange(120)), -1)
    rays = lens.unproject((grid - [K.cx, K.cy]) / [K.fx, K.fy])
    depth = normal @ [-0.2, -0.1, 0.6] / (rays @ normal) * rays[..., 2]
    np.testing.assert_allclose(taken.frame.depth, depth, rtol=0.01)
    np.testing.assert_allclose(taken.depth, plain.depth, rtol=1e-5)
    assert taken.frame.coverage.all() and (taken.frame.labels == 1).all()
    inside = (slice(10, -10), slice(10, -10))
    difference = np.abs(sensor.rectified(taken.frame.rgb).astype(float) - plain.rgb)[inside]
    assert np.median(difference) < 2 and (difference > 60).mean() < 0.02  # the edges are softer
    assert (np.abs(taken.frame.rgb.astype(float) - plain.rgb)[inside] > 60).mean() > 0.05


def test_binning_and_roi_show_the_same_scene():
    """Each pixel's ray is image_geometry's."""
    generate = chessboard(Pose(Rotation.from_rotvec([0.1, 0.2, 0.0]), [-0.2, -0.1, 0.5]))
    whole = Sensor(Camera(K, BARREL)).take(generate, HERE, 0)
    window = Sensor(Camera(K, BARREL, roi=Roi(30, 20, 80, 60))).take(generate, HERE, 0)
    np.testing.assert_allclose(window.frame.rgb, whole.frame.rgb[20:80, 30:110], atol=1)
    np.testing.assert_allclose(window.frame.depth, whole.frame.depth[20:80, 30:110], atol=1e-6)
    half = Sensor(Camera(K, BARREL, binning=(2, 2))).take(generate, HERE, 0)
    assert half.frame.rgb.shape == (60, 80, 3)
    np.testing.assert_allclose(half.frame.depth, whole.frame.depth[::2, ::2], rtol=0.01)


def test_rolling_shutter_on_a_turn_is_the_analytic_skew():
    """A vertical edge at azimuth a is at u = cx + fx tan(a - w t) in the row that is read at t."""
    azimuth, readout = 0.1, 0.04
    sensor = Sensor(Camera(K), SensorSettings(readout_time=readout))
    taken = sensor.take(edge_at(azimuth), turning(sensor), 0)
    t = ((np.arange(K.height) + 0.5) / K.height - 0.5) * readout
    expected = K.cx + K.fx * np.tan(azimuth - TURN * t)
    assert np.ptp(expected) > 4
    error = edges_of(taken.frame.rgb) - expected
    print(f"rolling shutter: skew {np.ptp(expected):.2f} px, error {np.abs(error).max():.3f} px at the most")
    assert np.abs(error).max() < 0.1
    # the ground truth of the rectified picture is of the stamp, the labels are the picture's own
    assert np.abs(edges_of(taken.frame.labels[..., None] * 255) - expected).max() <= 0.6


def test_rolling_shutter_of_a_shift_follows_the_depth():
    """Sideways at v past a plane at Z: fx v t / Z."""
    speed, depth, readout = 1.0, 2.0, 0.04
    sensor = Sensor(Camera(K), SensorSettings(readout_time=readout))
    poses = [Pose(Rotation.identity(), [speed * t, 0, 0]) for t in sensor.offsets]
    t = ((np.arange(K.height) + 0.5) / K.height - 0.5) * readout
    expected = K.cx + K.fx * (np.tan(0.1) - speed * t / depth)
    edges = edges_of(sensor.take(edge_at(0.1, depth), poses, 0).frame.rgb)
    assert np.ptp(expected) > 2 and np.abs(edges - expected).max() < 0.1


def test_a_motion_goes_on_after_the_stamp():
    """Of a constant velocity, the poses of the second half follow from the first."""
    offsets = pose_offsets(SensorSettings(exposure_time=0.01, readout_time=0.03))
    twist = Rotation.from_rotvec([0.1, 0.7, -0.2])
    step = Pose(twist**0.01, [0.01, 0.02, -0.005])
    poses = [Pose(Rotation.from_euler("y", 0.4), [1.0, 2.0, 3.0])]
    while len(poses) < len(offsets):
        poses.append(poses[-1] @ step)
    for expected, pose in zip(poses, continued(poses[:len(poses) // 2 + 1]), strict=True):
        np.testing.assert_allclose(pose.matrix, expected.matrix, atol=1e-9)
    assert offsets[len(offsets) // 2] == 0


def test_a_lens_and_a_rolling_shutter_together():
    """The edge of a row, seen through the lens: found by bending the row's own rays."""
    sensor = Sensor(Camera(K, BARREL), SensorSettings(readout_time=0.04))
    taken = sensor.take(edge_at(0.1), turning(sensor), 0)
    t = ((np.arange(K.height) + 0.5) / K.height - 0.5) * 0.04
    heights = np.linspace(-1, 1, 4001)
    for row in range(5, K.height, 10):
        u = np.tan(0.1 - TURN * t[row])
        rays = np.stack([np.full_like(heights, u), heights, np.ones_like(heights)], -1)
        edge = BARREL.project(rays) * K.fx + [K.cx, K.cy]
        assert edges_of(taken.frame.rgb)[row] == pytest.approx(np.interp(row, edge[:, 1], edge[:, 0]), abs=0.15)


def test_blur_is_as_wide_as_the_turn():
    """In light, not in bytes, an edge becomes a ramp of fx w E pixels, whose middle stays."""
    exposure = 0.05
    sensor = Sensor(Camera(K), SensorSettings(exposure_time=exposure))
    blurred = sensor.take(edge_at(0.0), turning(sensor), 0).frame.rgb
    light = linear_of_bytes()[blurred[60, :, 0]]
    length = K.fx * TURN * exposure
    expected = np.clip((np.arange(K.width) - K.cx) / length + 0.5, 0, 1)
    assert length == 6 and np.abs(light - expected).max() < 0.1
    assert K.width - 0.5 - light.sum() == pytest.approx(K.cx, abs=0.1)
    assert np.ptp(edges_of(blurred)) < 0.01  # no rolling shutter


def test_noise_follows_the_photon_transfer_curve():
    """The variance of a pixel, in electrons, is its mean and the read noise squared."""
    settings = SensorSettings(full_well=5000.0, read_noise=12.0)
    for value in (40, 120, 200):
        picture = Sensor(Camera(K), settings).take(flat(value), HERE, 0).frame.rgb
        electrons = 5000 * linear_of_bytes()[picture].astype(float)
        mean = 5000 * float(linear_of_bytes()[value])
        assert electrons.mean() == pytest.approx(mean, rel=0.01)
        assert electrons.var() == pytest.approx(mean + 12.0**2, rel=0.15)  # bytes are coarse


def test_noise_belongs_to_seed_camera_and_stamp():
    def picture(seed=1, name="left", stamp=10**18):
        sensor = Sensor(Camera(K, name=name), SensorSettings(full_well=3000.0, sensor_seed=seed))
        return sensor.take(flat(128), HERE, stamp).frame.rgb.tobytes()

    assert picture() == picture()
    others = {picture(), picture(seed=2), picture(name="right"), picture(stamp=10**18 + 1), picture(stamp=-1)}
    assert len(others) == 5


def test_light_and_gain_make_up_for_each_other():
    dark = SensorSettings(exposure=-3.0, gain=20 * np.log10(8))
    np.testing.assert_array_equal(Sensor(Camera(K), dark).take(flat(150), HERE, 0).frame.rgb, 150)
    noisy = [Sensor(Camera(K), SensorSettings(exposure=e, gain=g, full_well=3000.0)).take(flat(150), HERE, 0).frame.rgb
             for e, g in ((0.0, 0.0), (-3.0, 20 * np.log10(8)))]
    assert noisy[1].std() / noisy[0].std() == pytest.approx(8**0.5, rel=0.1)
    # what is brighter than the full well stays so, whatever the gain
    burnt = SensorSettings(exposure=4.0, full_well=1e6)
    assert Sensor(Camera(K), burnt).take(flat(200), HERE, 0).frame.rgb.min() > 250


def test_every_byte_survives_the_light():
    np.testing.assert_array_equal(to_bytes(linear_of_bytes().copy()), np.arange(256))


def test_the_vignette_is_the_sensors():
    settings, white = SensorSettings(vignette=0.5), flat(255)
    whole = linear_of_bytes()[Sensor(Camera(K), settings).take(white, HERE, 0).frame.rgb[..., 0]]
    assert whole[0, 0] == pytest.approx(0.5, abs=0.01) and whole[60, 80] == 1
    corner = Sensor(Camera(K, roi=Roi(0, 0, 40, 30)), settings).take(white, HERE, 0).frame.rgb[..., 0]
    np.testing.assert_allclose(linear_of_bytes()[corner], whole[:30, :40], atol=0.01)


@pytest.mark.parametrize(("data", "message"), [
    ({"vignette": 2.0}, "vignette .* is from 0 to 0.95, got 2.0"),
    ({"gain": -1}, "gain"), ({"exposure": float("nan")}, "exposure"), ({"readout_time": 5.0}, "readout_time"),
    ({"exposure_time": "long"}, "exposure_time"), ({"sensor_seed": 1.5}, "sensor_seed"),
    ({"read_noise": 3.0}, "give full_well"), ({"fullwell": 5}, "did you mean 'full_well'"), ([1], "mapping"),
])
def test_settings_out_of_range_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        settings_of(data)


def test_along_a_trajectory():
    poses = [Pose(Rotation.identity(), [x, 0, 0]) for x in (0.0, 1.0, 3.0)]
    for time, x in ((-1, 0), (0, 0), (0.25, 0.25), (1, 1), (1.5, 2), (2, 3), (5, 3)):
        assert along(poses, time).translation[0] == pytest.approx(x)
    assert along(poses[:1], 0.7) is poses[0] and along(poses, 1) is poses[1]


def test_a_wrong_number_of_poses_is_refused():
    sensor = Sensor(Camera(K), SensorSettings(readout_time=0.02))
    with pytest.raises(ValueError, match="needs 5 poses, got 1"):
        sensor.take(flat(0), HERE, 0)
