from cleanfid import fid as cleanfid


def get_fid(gen, dataset_name, dataset_resolution, z_dimension, batch_size, num_gen):
    shape = (batch_size, gen.channels, dataset_resolution, dataset_resolution)
    return cleanfid.compute_fid(
        gen=lambda z: gen.sample_given_z(z, shape) * 255,
        dataset_name=dataset_name,
        num_gen=num_gen,
        z_dim=z_dimension,
        batch_size=batch_size,
    )
