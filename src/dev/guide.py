import json, urllib.request
import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

KEY = [("authorization", "Bearer CALLER_KEY")]

class WithKey(grpc.StreamStreamClientInterceptor):
    def intercept_stream_stream(self, next_call, details, requests):
        return next_call(details._replace(metadata=KEY), requests)

channel = grpc.insecure_channel("GRPC_ADDRESS")
pool = DescriptorPool(ProtoReflectionDescriptorDatabase(grpc.intercept_channel(channel, WithKey())))

def call(method, **fields):
    service, name = ("threads.identity.v1." + method).split("/")
    rpc = pool.FindServiceByName(service).methods_by_name[name]
    stub = channel.unary_unary(
        f"/{service}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(rpc.output_type).FromString,
    )
    request = json_format.ParseDict(fields, GetMessageClass(rpc.input_type)())
    return stub(request, metadata=KEY, timeout=30)

created = call("AuthorizationService/CreateAuthorizationUrl", link={"user_id": "python-user"})
click = {"authorization_url": created.authorization_url, "persona": "bare", "decision": "allow"}
consent = urllib.request.Request("SIMULATOR_URL/_simulator/consent", json.dumps(click).encode(),
                                 {"content-type": "application/json"})
callback_url = json.load(urllib.request.urlopen(consent))["callback_url"]
done = call("AuthorizationService/CompleteAuthorization", callback_url=callback_url, user_id="python-user")
print(call("ProfileService/GetProfile", account_id=done.account.account_id, user_id="python-user"))
